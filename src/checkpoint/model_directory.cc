#include "checkpoint/model_directory.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "checkpoint/directory_tree.h"
#include "checkpoint/quote.h"
#include "checkpoint/shard_index.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

// O_NONBLOCK: a FIFO in the directory must not block us.
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

// Magic links (/proc/<pid>/fd/N) are refused where the kernel can tell (Linux 5.6; some container filters forbid the
// call). Elsewhere require_link_stays still judges where a link led.
int open_without_magic_links(int directory, const char* name) {
  open_how how{};
  how.flags = kOpenFlags;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, directory, name, &how, sizeof how);
  if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return static_cast<int>(fd);
  return ::openat(directory, name, kOpenFlags);
}

// Where an open descriptor really is, with every link resolved; empty when /proc does not tell.
std::string real_path_of(int fd) {
  std::string target(PATH_MAX, '\0');
  const ssize_t length = ::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target.data(), target.size());
  target.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
  return target;
}

std::string parent_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

}  // namespace

ModelDirectory::ModelDirectory(const std::string& path, ModelDirectoryOptions options)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), options_(options) {
  if (!fd_) throw Error(Code::kBadFile, path_, ": cannot open as a model directory: ", errno_text(errno));
  real_path_ = real_path_of(fd_.get());
}

std::vector<std::string> ModelDirectory::file_names() const {
  std::vector<std::string> names = list_directory(fd_.get(), path_);
  std::erase_if(names, [&](const std::string& name) {
    struct stat status {};
    return ::fstatat(fd_.get(), name.c_str(), &status, 0) == 0 && S_ISDIR(status.st_mode);
  });
  return names;
}

bool ModelDirectory::has(const std::string& name) const {
  struct stat status {};
  // A dangling link counts: it is there, and opening it says what is wrong.
  return ::fstatat(fd_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0;
}

MappedFile ModelDirectory::open(const std::string& name) const {
  if (!is_plain_file_name(name))
    throw Error(Code::kBadFile, path_, ": found file name ", quote(name), ", accepted: one path component");
  const std::string shown = path_ + "/" + name;
  struct stat status {};
  if (::fstatat(fd_.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0)
    throw Error(Code::kBadFile, shown, ": missing: ", errno_text(errno));
  UniqueFd fd(open_without_magic_links(fd_.get(), name.c_str()));
  if (!fd)
    throw Error(Code::kBadFile, shown, ": cannot open: ", errno_text(errno),
                S_ISLNK(status.st_mode) ? " (a symbolic link: dangling, a loop, or one of /proc)" : "");
  if (!options_.allow_outside_links) require_link_stays(fd.get(), name);
  return MappedFile::adopt(std::move(fd), shown);
}

void ModelDirectory::require_link_stays(int file_fd, const std::string& name) const {
  const std::string target = real_path_of(file_fd);
  const bool is_inside = !real_path_.empty() && target.starts_with(real_path_ == "/" ? "/" : real_path_ + "/");
  // models--org--name/snapshots/<revision>/x -> models--org--name/blobs/<hash>
  const std::string snapshots = parent_of(real_path_);
  const bool is_cache = snapshots.ends_with("/snapshots") && parent_of(target) == parent_of(snapshots) + "/blobs";
  if (is_inside || is_cache) return;
  throw Error(Code::kBadFile, path_, "/", name, ": is a link to ", quote(target),
              ", accepted: files of the model directory, or ../../blobs of a Hugging Face cache");
}

}  // namespace megamoe
