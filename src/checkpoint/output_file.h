// One file that appears complete or not at all.
//
//   create .<name>.tmp.<pid> -> allocate -> write -> fsync -> (the caller verifies) -> rename -> fsync of the directory
//
// Until publish() returns, `name` in the directory is what it was before; afterwards it is the new file, also when
// the power fails. A process that is killed leaves only the temporary file, which is_temporary_name() recognises.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "checkpoint/file.h"
#include "checkpoint/file_ops.h"

namespace megamoe {

// A directory that files are written into. Does not own the descriptor.
struct WriteTarget {
  FileOps* ops;
  int fd;
  std::string path;  // how sentences call it
};

class OutputFile {
 public:
  // Throws kBadFile, here and below, naming the file and what the system said. `target` must outlive this object.
  OutputFile(const WriteTarget& target, std::string name);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();  // removes the temporary file unless it was published

  // Reserves the blocks of the whole file, so that a full disk is found before hours of work, and sets its size.
  void allocate(std::uint64_t bytes);
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  // Lets the system begin to store these bytes; sync() has less to wait for then.
  void start_sync(std::uint64_t offset, std::uint64_t bytes) noexcept;
  // After this the bytes are on the disk, and open_for_reading() reads them from there where the system can drop its
  // cache.
  void sync();
  MappedFile open_for_reading() const;
  // Gives the file its name. Without `replace` an existing file of that name is an error and stays.
  void publish(bool replace);

 private:
  template <class... Parts>
  [[noreturn]] void fail(const Parts&... parts) const;

  const WriteTarget& target_;
  std::string name_;
  std::string temporary_name_;
  int fd_ = -1;
  bool is_published_ = false;
};

bool is_temporary_name(std::string_view name) noexcept;

// Makes renames and removals in the directory last through a power failure.
void sync_directory(const WriteTarget& target);

// Writes a small file whole, by the same protocol.
void write_whole_file(const WriteTarget& target, const std::string& name, std::string_view text, bool replace);

}  // namespace megamoe
