#include "checkpoint/file_ops.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace megamoe {

int FileOps::open(int directory, const char* name, int flags, mode_t mode) {
  return ::openat(directory, name, flags | O_CLOEXEC, mode);
}

int FileOps::make_directory(int directory, const char* name) { return ::mkdirat(directory, name, 0777); }

int FileOps::lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB); }

int FileOps::allocate(int fd, off_t bytes) {
  const int error = ::posix_fallocate(fd, 0, bytes);  // returns the error, unlike its neighbours
  if (error != 0) errno = error;
  return error == 0 ? 0 : -1;
}

ssize_t FileOps::write_at(int fd, const void* data, std::size_t bytes, off_t offset) {
  return ::pwrite(fd, data, bytes, offset);
}

void FileOps::start_sync(int fd, off_t offset, off_t bytes) {
  ::sync_file_range(fd, offset, bytes, SYNC_FILE_RANGE_WRITE);
}

int FileOps::sync(int fd) { return ::fsync(fd); }

int FileOps::close(int fd) { return ::close(fd); }

int FileOps::rename(int directory, const char* from, const char* to, unsigned flags) {
  return ::renameat2(directory, from, directory, to, flags);
}

int FileOps::unlink(int directory, const char* name) { return ::unlinkat(directory, name, 0); }

int FileOps::remove_directory(int directory, const char* name) { return ::unlinkat(directory, name, AT_REMOVEDIR); }

std::int64_t FileOps::free_bytes(int fd) {
  struct statvfs status {};
  if (::fstatvfs(fd, &status) != 0) return -1;
  return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

FileOps& system_file_ops() noexcept {
  static FileOps ops;
  return ops;
}

}  // namespace megamoe
