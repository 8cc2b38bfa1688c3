// How fast this machine reads memory: the ceiling beside which a layer's time is judged, because at few tokens a layer
// does little but read its weights once.
#pragma once

#include <cstddef>

#include "bench/new_pages.h"

namespace megamoe::bench {

// Bytes that may be taken for a measurement now; 0 where the system does not tell.
std::size_t available_memory();

class ReadProbe {
 public:
  // Takes `bytes` of memory, more than any cache holds; it is read in linear pieces of 4 MiB.
  ReadProbe(std::size_t bytes, int threads);

  double read_once();  // bytes per second of one pass over the buffer

 private:
  NewPages memory_;
  int threads_;
};

}  // namespace megamoe::bench
