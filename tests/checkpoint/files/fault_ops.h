// System calls of which the n-th goes wrong.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "checkpoint/file_ops.h"

namespace megamoe::test {

enum class Fault { kNone, kNoSpace, kIo, kQuota, kInterrupted, kShortWrite, kExit };

class FaultOps : public FileOps {
 public:
  static constexpr int kExitStatus = 77;

  FaultOps() = default;
  FaultOps(Fault fault, int at) : fault_(fault), at_(at) {}

  int calls() const { return calls_; }
  void set_delay_us(int delay) { delay_us_ = delay; }

  int open(int directory, const char* name, int flags, mode_t mode) override {
    return fails() ? -1 : FileOps::open(directory, name, flags, mode);
  }
  int make_directory(int directory, const char* name) override {
    return fails() ? -1 : FileOps::make_directory(directory, name);
  }
  int lock(int fd) override { return fails() ? -1 : FileOps::lock(fd); }
  int allocate(int fd, off_t bytes) override { return fails() ? -1 : FileOps::allocate(fd, bytes); }
  ssize_t write_at(int fd, const void* data, std::size_t bytes, off_t offset) override {
    if (fails()) return -1;
    const bool is_short = fault_ == Fault::kShortWrite && calls_ == at_ && bytes > 1;
    return FileOps::write_at(fd, data, is_short ? bytes / 2 : bytes, offset);
  }
  int sync(int fd) override { return fails() ? -1 : FileOps::sync(fd); }
  int close(int fd) override {
    // A close that fails has closed all the same.
    const bool failed = fails();
    const int error = errno;
    const int result = FileOps::close(fd);
    errno = error;
    return failed ? -1 : result;
  }
  int rename(int directory, const char* from, const char* to, unsigned flags) override {
    return fails() ? -1 : FileOps::rename(directory, from, to, flags);
  }
  int unlink(int directory, const char* name) override { return fails() ? -1 : FileOps::unlink(directory, name); }
  int remove_directory(int directory, const char* name) override {
    return fails() ? -1 : FileOps::remove_directory(directory, name);
  }
  std::int64_t free_bytes(int fd) override { return fails() ? -1 : FileOps::free_bytes(fd); }

 private:
  bool fails() {
    if (delay_us_ > 0) ::usleep(static_cast<useconds_t>(delay_us_));
    if (++calls_ != at_) return false;
    switch (fault_) {
      case Fault::kNone:
      case Fault::kShortWrite:
        return false;
      case Fault::kNoSpace:
        errno = ENOSPC;
        return true;
      case Fault::kIo:
        errno = EIO;
        return true;
      case Fault::kQuota:
        errno = EDQUOT;
        return true;
      case Fault::kInterrupted:
        errno = EINTR;
        return true;
      case Fault::kExit:
        ::_exit(kExitStatus);
    }
    return false;
  }

  Fault fault_ = Fault::kNone;
  int at_ = 0;
  int calls_ = 0;
  int delay_us_ = 0;
};

}  // namespace megamoe::test
