#include "checkpoint/output_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "megamoe/error.h"

namespace megamoe {
namespace {

constexpr std::string_view kTemporaryMark = ".tmp.";

// Writing past RLIMIT_FSIZE raises SIGXFSZ, which kills a process that does not expect it; so it is asked beforehand.
std::uint64_t largest_allowed_file() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  return limit.rlim_cur;
}

}  // namespace

template <class... Parts>
void OutputFile::fail(const Parts&... parts) const {
  throw Error(Code::kBadFile, target_.path, "/", name_, ": ", parts...);
}

OutputFile::OutputFile(const WriteTarget& target, std::string name)
    : target_(target),
      name_(std::move(name)),
      temporary_name_("." + name_ + std::string(kTemporaryMark) + std::to_string(::getpid())) {
  // O_RDWR: the file is read again before it gets its name. 0666: the user's umask decides, as for any new file.
  fd_ = retry_interrupted(
      [&] { return target_.ops->open(target_.fd, temporary_name_.c_str(), O_RDWR | O_CREAT | O_EXCL, 0666); });
  if (fd_ < 0) fail("cannot create ", temporary_name_, ": ", errno_text(errno));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) target_.ops->close(fd_);
  if (!is_published_) target_.ops->unlink(target_.fd, temporary_name_.c_str());
}

void OutputFile::allocate(std::uint64_t bytes) {
  if (bytes > largest_allowed_file())
    fail("needs ", bytes, " bytes, this process may write files of at most ", largest_allowed_file(), " (ulimit -f)");
  if (bytes == 0) return;
  if (retry_interrupted([&] { return target_.ops->allocate(fd_, static_cast<off_t>(bytes)); }) != 0)
    fail("cannot reserve ", bytes, " bytes: ", errno_text(errno));
}

void OutputFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = retry_interrupted(
        [&] { return target_.ops->write_at(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
    if (written < 0) fail("cannot write ", bytes.size(), " bytes at byte ", offset, ": ", errno_text(errno));
    if (written == 0) fail("cannot write ", bytes.size(), " bytes at byte ", offset, ": the system wrote none");
    offset += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void OutputFile::start_sync(std::uint64_t offset, std::uint64_t bytes) noexcept {
  target_.ops->start_sync(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes));
}

void OutputFile::sync() {
  // Only an interruption is tried again: after any other failure the kernel may already have dropped the dirty pages.
  if (retry_interrupted([&] { return target_.ops->sync(fd_); }) != 0) fail("cannot sync: ", errno_text(errno));
  ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
}

MappedFile OutputFile::open_for_reading() const {
  UniqueFd fd(::openat(target_.fd, temporary_name_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) fail("cannot read back ", temporary_name_, ": ", errno_text(errno));
  return MappedFile::adopt(std::move(fd), target_.path + "/" + temporary_name_);
}

void OutputFile::publish(bool replace) {
  const int fd = fd_;
  fd_ = -1;
  // Linux has closed the descriptor even when it reports EINTR, and sync() has already stored the bytes.
  if (target_.ops->close(fd) != 0 && errno != EINTR) fail("cannot close: ", errno_text(errno));

  const auto rename = [&](unsigned flags) {
    return retry_interrupted(
        [&] { return target_.ops->rename(target_.fd, temporary_name_.c_str(), name_.c_str(), flags); });
  };
  int result = rename(replace ? 0 : RENAME_NOREPLACE);
  if (result != 0 && !replace && (errno == EINVAL || errno == ENOSYS)) {
    // This file system cannot refuse by itself. Looking first is as good while the directory's lock is held.
    if (::faccessat(target_.fd, name_.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0)
      errno = EEXIST;
    else
      result = rename(0);
  }
  if (result != 0) fail("cannot rename ", temporary_name_, " to it: ", errno_text(errno));
  is_published_ = true;
  sync_directory(target_);
}

bool is_temporary_name(std::string_view name) noexcept {
  const std::size_t mark = name.rfind(kTemporaryMark);
  if (name.empty() || name.front() != '.' || mark == std::string_view::npos || mark == 0) return false;
  const std::string_view pid = name.substr(mark + kTemporaryMark.size());
  return !pid.empty() && std::all_of(pid.begin(), pid.end(), [](char c) { return c >= '0' && c <= '9'; });
}

void sync_directory(const WriteTarget& target) {
  if (retry_interrupted([&] { return target.ops->sync(target.fd); }) != 0)
    throw Error(Code::kBadFile, target.path, ": cannot sync the directory: ", errno_text(errno));
}

void write_whole_file(const WriteTarget& target, const std::string& name, std::string_view text, bool replace) {
  OutputFile file(target, name);
  file.allocate(text.size());
  file.write_at(0, std::as_bytes(std::span(text)));
  file.sync();
  file.publish(replace);
}

}  // namespace megamoe
