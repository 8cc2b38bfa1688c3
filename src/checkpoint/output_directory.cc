#include "checkpoint/output_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "checkpoint/content_digest.h"
#include "checkpoint/directory_tree.h"
#include "checkpoint/hex.h"
#include "checkpoint/quote.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/sha256.h"
#include "checkpoint/shard_index.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

constexpr char kLockName[] = ".megamoe-lock";
constexpr char kConfigName[] = "config.json";
constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

bool is_own_file(std::string_view name) { return name == kLockName || is_temporary_name(name); }

// An empty UniqueFd and errno when there is none.
UniqueFd open_directory(FileOps& ops, int parent, const std::string& name) {
  return UniqueFd(retry_interrupted([&] { return ops.open(parent, name.c_str(), O_RDONLY | O_DIRECTORY, 0); }));
}

bool has_name(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

OutputDirectory::OutputDirectory(const std::string& path, const ModelFiles& source, ExistingOutput existing,
                                 std::string options, std::string tool, FileOps& ops)
    : path_(path) {
  const PathParts parts = split_path(path);
  name_ = parts.name;
  parent_fd_ = open_directory(ops, AT_FDCWD, parts.parent);
  if (!parent_fd_) throw Error(Code::kBadFile, parts.parent, ": cannot open the output's parent: ", errno_text(errno));
  parent_ = {.ops = &ops, .fd = parent_fd_.get(), .path = parts.parent};
  require_apart(source);
  choose_work_directory(existing);
  lock_fd_ = lock(work_);

  const std::vector<std::string> names = list_directory(work_.fd, work_.path);
  const bool resume = existing == ExistingOutput::kResume && has_name(names, kJournalName);
  remove_leftovers(/*everything=*/is_staged_ && !resume);
  start_or_resume({.tool = std::move(tool), .options = std::move(options), .source = source_fingerprint(source)},
                  resume);
}

OutputDirectory::~OutputDirectory() = default;

void OutputDirectory::require_apart(const ModelFiles& source) const {
  // The output may not exist yet; then it is inside whatever its parent is inside.
  const UniqueFd output(::openat(parent_.fd, name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const int deepest = output ? output.get() : parent_.fd;
  if (is_inside_or_same(deepest, source.directory().fd()) ||
      (output && is_inside_or_same(source.directory().fd(), output.get())))
    throw Error(Code::kInvalidArgument, path_, ": asked as output, but it is, contains or lies in the input ",
                source.directory().path(), "; accepted: a directory apart from it");
}

void OutputDirectory::choose_work_directory(ExistingOutput existing) {
  const std::string staging = "." + name_ + ".megamoe-new";
  make_directory(name_);
  open_work_directory(name_);

  std::vector<std::string> names = list_directory(work_.fd, path_);
  std::erase_if(names, is_own_file);
  const bool is_interrupted = has_name(names, kJournalName);
  switch (existing) {
    case ExistingOutput::kRefuse:
      if (names.empty()) return;
      throw Error(Code::kInvalidArgument, path_, ": ",
                  is_interrupted ? "holds an interrupted run; accepted: resume it, overwrite it, or another directory"
                                 : "is not empty; accepted: an empty or new directory, or overwrite");
    case ExistingOutput::kResume:
      if (is_interrupted || names.empty()) return;
      if (::faccessat(parent_.fd, (staging + "/" + kJournalName).c_str(), F_OK, 0) != 0)
        throw Error(Code::kInvalidArgument, path_, ": holds files but no interrupted run; nothing to resume");
      break;
    case ExistingOutput::kOverwrite:
      if (names.empty()) return;
      require_replaceable(names);
      if (::faccessat(work_.fd, kLockName, F_OK, 0) == 0) old_lock_fd_ = lock(work_);
      make_directory(staging);
      break;
  }
  is_staged_ = true;
  open_work_directory(staging);
}

void OutputDirectory::make_directory(const std::string& name) const {
  const int result = retry_interrupted([&] { return parent_.ops->make_directory(parent_.fd, name.c_str()); });
  if (result != 0 && errno != EEXIST)
    throw Error(Code::kBadFile, parent_.path, "/", name, ": cannot create the directory: ", errno_text(errno));
}

void OutputDirectory::open_work_directory(const std::string& name) {
  work_ = {.ops = parent_.ops, .fd = -1, .path = name == name_ ? path_ : parent_.path + "/" + name};
  work_fd_ = open_directory(*parent_.ops, parent_.fd, name);
  if (!work_fd_) throw Error(Code::kBadFile, work_.path, ": cannot open as a directory: ", errno_text(errno));
  work_.fd = work_fd_.get();
}

// A wrong path given with "overwrite" must not cost someone's files.
void OutputDirectory::require_replaceable(const std::vector<std::string>& names) const {
  const bool is_model = has_name(names, kConfigName) || has_name(names, kJournalName);
  const bool is_flat = std::none_of(names.begin(), names.end(), [&](const std::string& name) {
    struct stat status {};
    return ::fstatat(work_.fd, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || S_ISDIR(status.st_mode);
  });
  if (!is_model || !is_flat)
    throw Error(Code::kInvalidArgument, path_, ": asked to overwrite, but it ",
                !is_model ? "has no config.json" : "has subdirectories",
                "; accepted: a directory that holds a model and nothing else");
}

UniqueFd OutputDirectory::lock(const WriteTarget& directory) const {
  UniqueFd fd(retry_interrupted([&] { return directory.ops->open(directory.fd, kLockName, O_RDWR | O_CREAT, 0666); }));
  if (!fd) throw Error(Code::kBadFile, directory.path, "/", kLockName, ": cannot open: ", errno_text(errno));
  const int result = retry_interrupted([&] { return directory.ops->lock(fd.get()); });
  if (result != 0 && errno == EWOULDBLOCK)
    throw Error(Code::kBadFile, directory.path, ": another process is writing there");
  if (result != 0) throw Error(Code::kBadFile, directory.path, "/", kLockName, ": cannot lock: ", errno_text(errno));
  // A run that ends removes its lock file; who waited behind it would hold a lock that nobody else can see.
  struct stat held {
  }, named{};
  const bool is_current = ::fstat(fd.get(), &held) == 0 && ::fstatat(directory.fd, kLockName, &named, 0) == 0 &&
                          held.st_ino == named.st_ino;
  if (!is_current) throw Error(Code::kBadFile, directory.path, ": another process was writing there until now");
  return fd;
}

void OutputDirectory::remove_leftovers(bool everything) {
  for (const std::string& name : list_directory(work_.fd, work_.path))
    if (is_temporary_name(name) || (everything && name != kLockName)) remove_if_there(work_, name.c_str());
}

void OutputDirectory::start_or_resume(RunIdentity run, bool resume) {
  if (!resume) {
    journal_.run = std::move(run);
    write_whole_file(work_, kJournalName, format_journal(journal_), /*replace=*/false);
    return;
  }
  const std::string journal_path = work_.path + "/" + kJournalName;
  journal_ = parse_journal(read_text(MappedFile::open(journal_path), kMaxJournalBytes), journal_path);
  const auto require_same = [&](std::string_view what, const std::string& then, const std::string& now) {
    if (then != now)
      throw Error(Code::kInvalidArgument, path_, ": cannot resume: the interrupted run had ", what, " ", quote(then),
                  ", this one has ", quote(now));
  };
  require_same("tool", journal_.run.tool, run.tool);
  require_same("options", journal_.run.options, run.options);
  if (journal_.run.source != run.source)
    throw Error(Code::kInvalidArgument, path_, ": cannot resume: the input is not the one of the interrupted run");
  may_replace_ = true;
}

void OutputDirectory::require_space(std::uint64_t bytes) const {
  const std::int64_t free = retry_interrupted([&] { return work_.ops->free_bytes(work_.fd); });
  if (free < 0) throw Error(Code::kBadFile, work_.path, ": cannot tell the free space: ", errno_text(errno));
  if (static_cast<std::uint64_t>(free) < bytes)
    throw Error(Code::kBadFile, work_.path, ": needs ", bytes, " bytes, the file system has ", free, " free");
}

bool OutputDirectory::is_finished(const std::string& name, std::span<const ConstTensorView> sources) {
  const auto entry = journal_.files.find(name);
  const bool is_there = ::faccessat(work_.fd, name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  if (entry != journal_.files.end() && is_there) {
    if (to_hex(combine_digests({}, tensor_digests(sources))) != entry->second.sources)
      throw Error(Code::kInvalidArgument, path_, ": cannot resume: the input's tensors of ", quote(name),
                  " have changed since the interrupted run");
    try {
      const SafetensorsFile file = SafetensorsFile::open(work_.path + "/" + name);
      if (to_hex(content_digest(file)) == entry->second.content) return true;
    } catch (const Error&) {
      // Not what the journal promises: written again below.
    }
  }
  if (is_there) remove_if_there(work_, name.c_str());
  return false;
}

void OutputDirectory::record(const std::string& name, JournalEntry entry) {
  journal_.files[name] = std::move(entry);
  write_whole_file(work_, kJournalName, format_journal(journal_), /*replace=*/true);
}

void OutputDirectory::copy_file(const MappedFile& from, const std::string& name) {
  OutputFile file(work_, name);
  file.allocate(from.size());
  std::vector<std::byte> buffer(std::min<std::uint64_t>(kCopyBytes, from.size()));
  for (std::uint64_t offset = 0; offset < from.size(); offset += buffer.size()) {
    const auto piece = std::span(buffer).first(std::min<std::uint64_t>(buffer.size(), from.size() - offset));
    from.read_at(offset, piece);
    file.write_at(offset, piece);
  }
  from.require_unchanged();
  file.sync();
  file.publish(may_replace_);
}

void OutputDirectory::write_file(const std::string& name, std::string_view text) {
  write_whole_file(work_, name, text, may_replace_);
}

void OutputDirectory::finish(std::string_view index, std::string_view config) {
  if (!index.empty()) write_file(std::string(kShardIndexName), index);
  write_file(kConfigName, config);
  if (is_staged_) swap_with_old();
  // The journal goes last: until then, whatever fails can be resumed, and finds every file finished.
  remove_if_there(work_, kLockName);
  remove_if_there(work_, kJournalName);
  sync_directory(work_);
}

void OutputDirectory::swap_with_old() {
  const std::string staging = "." + name_ + ".megamoe-new";
  const UniqueFd old = open_directory(*parent_.ops, parent_.fd, name_);
  if (!old) throw Error(Code::kBadFile, path_, ": cannot open as a directory: ", errno_text(errno));
  // Behind the swap, the journal of a run that was interrupted in the old directory would look like one of this run.
  remove_if_there({.ops = parent_.ops, .fd = old.get(), .path = path_}, kJournalName);
  if (retry_interrupted(
          [&] { return parent_.ops->rename(parent_.fd, staging.c_str(), name_.c_str(), RENAME_EXCHANGE); }) != 0)
    throw Error(Code::kBadFile, path_, ": the new model is complete in ", work_.path,
                " but cannot take its place: ", errno_text(errno));
  sync_directory(parent_);
  work_.path = path_;
  remove_old_model(old.get(), staging);
}

void OutputDirectory::remove_old_model(int directory, const std::string& name) {
  const WriteTarget old{.ops = parent_.ops, .fd = directory, .path = parent_.path + "/" + name};
  for (const std::string& file : list_directory(directory, old.path)) remove_if_there(old, file.c_str());
  if (retry_interrupted([&] { return parent_.ops->remove_directory(parent_.fd, name.c_str()); }) != 0 &&
      errno != ENOENT)
    throw Error(Code::kBadFile, old.path,
                ": the new model is in place, but the old one cannot be removed: ", errno_text(errno));
}

void OutputDirectory::remove_if_there(const WriteTarget& directory, const char* name) const {
  const int result = retry_interrupted([&] { return directory.ops->unlink(directory.fd, name); });
  if (result != 0 && errno != ENOENT)
    throw Error(Code::kBadFile, directory.path, "/", name, ": cannot remove: ", errno_text(errno));
}

std::string source_fingerprint(const ModelFiles& source) {
  std::string text;
  for (std::uint32_t i = 0; i < source.shards().size(); ++i) {
    const SafetensorsFile& shard = source.shards()[i];
    const auto header = shard.file().bytes().first(static_cast<std::size_t>(shard.data_begin()));
    text += source.shard_name(i) + " " + std::to_string(shard.file().size()) + " " + to_hex(sha256(header)) + "; ";
  }
  if (!source.directory().has(kConfigName)) return text + "no config.json";
  return text + "config.json " + to_hex(sha256(source.directory().open(kConfigName).bytes()));
}

}  // namespace megamoe
