#include "checkpoint/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "megamoe/error.h"

namespace megamoe {
namespace {

std::string_view kind_of(mode_t mode) noexcept {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

FileIdentity identity_of(const struct stat& status) noexcept {
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = static_cast<std::uint64_t>(status.st_size),
          .mtime_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec};
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

int UniqueFd::release() noexcept { return std::exchange(fd_, -1); }

std::string errno_text(int error) { return std::generic_category().message(error); }

MappedFile MappedFile::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO must not wait for its writer. It changes nothing for regular files.
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!fd) throw Error(Code::kBadFile, path, ": cannot open: ", errno_text(errno));
  return adopt(std::move(fd), path);
}

MappedFile MappedFile::adopt(UniqueFd fd, std::string path) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) throw Error(Code::kBadFile, path, ": cannot stat: ", errno_text(errno));
  if (!S_ISREG(status.st_mode))
    throw Error(Code::kBadFile, path, ": found ", kind_of(status.st_mode), ", accepted: a regular file");

  MappedFile file;
  file.path_ = std::move(path);
  file.fd_ = std::move(fd);
  file.identity_ = identity_of(status);
  if (file.size() > 0) {
    void* data = ::mmap(nullptr, static_cast<std::size_t>(file.size()), PROT_READ, MAP_PRIVATE, file.fd_.get(), 0);
    if (data == MAP_FAILED)
      throw Error(Code::kBadFile, file.path_, ": cannot map ", file.size(), " bytes: ", errno_text(errno));
    file.data_ = static_cast<const std::byte*>(data);
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(identity_, other.identity_);
  std::swap(data_, other.data_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<std::size_t>(size()));
}

void MappedFile::forget(std::span<const std::byte> bytes) const noexcept {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto end = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void MappedFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(Code::kBadFile, path_, ": cannot read at byte ", offset + done, ": ", errno_text(errno));
    if (got == 0)
      throw Error(Code::kBadFile, path_, ": short read at byte ", offset, ": wanted ", out.size(), " bytes, got ",
                  done);
    done += static_cast<std::size_t>(got);
  }
}

void MappedFile::require_unchanged() const {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) throw Error(Code::kBadFile, path_, ": cannot stat: ", errno_text(errno));
  const FileIdentity now = identity_of(status);
  if (now != identity_)
    throw Error(Code::kBadFile, path_, ": changed while it was read: had ", identity_.size, " bytes, has ", now.size,
                now.size == identity_.size ? " with another modification time" : "");
}

std::string read_text(const MappedFile& file, std::uint64_t max_bytes) {
  if (file.size() > max_bytes)
    throw Error(Code::kBadFile, file.path(), ": found ", file.size(), " bytes, accepted: at most ", max_bytes);
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace megamoe
