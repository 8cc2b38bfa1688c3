// Memory for a measurement, as AlignedBuffer of backend cpu takes it: new pages, huge where the system has such. Not
// that class itself: builds without the backend measure too.
#pragma once

#include <cstddef>
#include <span>

namespace megamoe::bench {

class NewPages {
 public:
  explicit NewPages(std::size_t bytes);  // not 0; zeroed; throws kOutOfMemory
  ~NewPages();
  NewPages(const NewPages&) = delete;
  NewPages& operator=(const NewPages&) = delete;

  std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace megamoe::bench
