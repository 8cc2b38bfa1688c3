#include "bench/new_pages.h"

#include <sys/mman.h>

#include "megamoe/error.h"

namespace megamoe::bench {

NewPages::NewPages(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw Error(Code::kOutOfMemory, "memory for a measurement: asked ", bytes, " bytes, the system refused");
  madvise(memory, bytes, MADV_HUGEPAGE);  // advice: where it is refused, small pages are measured
  bytes_ = {static_cast<std::byte*>(memory), bytes};
}

NewPages::~NewPages() { munmap(bytes_.data(), bytes_.size()); }

}  // namespace megamoe::bench
