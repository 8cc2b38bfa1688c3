// What CUDA devices this process sees.
#pragma once

#include <cstddef>
#include <string>

namespace megamoe::cuda {

struct Device {
  int index = -1;  // the current device
  std::string name;
  int major = 0;
  int minor = 0;
  int multiprocessors = 0;
  std::size_t memory_bytes = 0;
};

// The current device, or in `reason` why there is none ("no CUDA driver", ...) and index -1. Never throws: machines
// without a GPU are the common case.
Device current_device(std::string& reason);

}  // namespace megamoe::cuda
