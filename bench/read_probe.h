// How fast this machine reads memory: the ceiling beside which a layer's time is judged, because at few tokens a layer
// does little but read its weights once.
#pragma once

#include <cstddef>

namespace megamoe::bench {

// Bytes that may be taken for a measurement now; 0 where the system does not tell.
std::size_t available_memory();

class ReadProbe {
 public:
  // Takes `bytes` of memory, more than any cache holds; it is read in linear pieces of 4 MiB.
  ReadProbe(std::size_t bytes, int threads);
  ~ReadProbe();
  ReadProbe(const ReadProbe&) = delete;
  ReadProbe& operator=(const ReadProbe&) = delete;

  double read_once();  // bytes per second of one pass over the buffer

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  int threads_ = 1;
};

}  // namespace megamoe::bench
