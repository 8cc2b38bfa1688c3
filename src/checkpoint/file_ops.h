// Every system call that writing makes, behind one interface, so that a test can make the n-th one fail or be the last.
#pragma once

#include <sys/types.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace megamoe {

// Each function behaves as the system call in its comment: -1 and errno on failure, short counts, EINTR and all.
class FileOps {
 public:
  virtual ~FileOps() = default;

  virtual int open(int directory, const char* name, int flags, mode_t mode);            // openat
  virtual int make_directory(int directory, const char* name);                          // mkdirat, mode 0777 & ~umask
  virtual int lock(int fd);                                                             // flock, exclusive, no waiting
  virtual int allocate(int fd, off_t bytes);                                            // posix_fallocate
  virtual ssize_t write_at(int fd, const void* data, std::size_t bytes, off_t offset);  // pwrite
  virtual void start_sync(int fd, off_t offset, off_t bytes);                           // sync_file_range, a hint
  virtual int sync(int fd);                                                             // fsync
  virtual int close(int fd);                                                            // close
  virtual int rename(int directory, const char* from, const char* to, unsigned flags);  // renameat2
  virtual int unlink(int directory, const char* name);                                  // unlinkat
  virtual int remove_directory(int directory, const char* name);                        // unlinkat, AT_REMOVEDIR
  // Bytes that this user may still write in the file system of `fd`; -1 and errno on failure (fstatvfs).
  virtual std::int64_t free_bytes(int fd);
};

FileOps& system_file_ops() noexcept;

// Repeats a call that a signal interrupted. Not for close: Linux has closed the descriptor then.
template <class Call>
auto retry_interrupted(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace megamoe
