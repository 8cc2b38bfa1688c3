// Read-only files: opened with care, mapped, and read by copy where a copy is safer.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace megamoe {

// Owns a file descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd();

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept;

 private:
  int fd_ = -1;
};

// errno as a sentence part: "No such file or directory".
std::string errno_text(int error);

// What must stay the same for a file to count as the one that was opened.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t mtime_ns = 0;

  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// A regular file, mapped read-only. Its bytes are never written through this mapping.
//
// When another process truncates the file, touching the lost pages raises SIGBUS, which a library must not handle.
// So what decides sizes (headers) is read with read_at(), where a short file is an Error, and require_unchanged()
// after the last use tells a file that was rewritten underneath. Checkpoints are not to be edited while in use.
class MappedFile {
 public:
  // Throws kBadFile for what is missing, unreadable or not a regular file (directory, FIFO, device); never blocks.
  static MappedFile open(const std::string& path);
  // The same for `fd`, which it takes over; `path` is how sentences call the file.
  static MappedFile adopt(UniqueFd fd, std::string path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return identity_.size; }
  const FileIdentity& identity() const noexcept { return identity_; }
  std::span<const std::byte> bytes() const noexcept { return {data_, static_cast<std::size_t>(size())}; }

  // For bytes that are not needed soon: takes the pages that lie wholly inside them out of this process. Touching them
  // again brings them back. The thread that used them does it in its own time; unmapping all at the end does not.
  void forget(std::span<const std::byte> bytes) const noexcept;
  // Copies out.size() bytes at `offset`; throws kBadFile with offset, wanted and got when the file ends before.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;
  // Throws kBadFile when size, time of change or inode is no longer that of open().
  void require_unchanged() const;

 private:
  MappedFile() = default;

  std::string path_;
  UniqueFd fd_;
  FileIdentity identity_;
  const std::byte* data_ = nullptr;
};

// The whole of a file as text, for small ones; throws kBadFile when it is larger than `max_bytes`.
std::string read_text(const MappedFile& file, std::uint64_t max_bytes);

}  // namespace megamoe
