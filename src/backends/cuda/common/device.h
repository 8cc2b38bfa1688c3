// The device that plans are made for.
#pragma once

#include <string>

#include "megamoe/device.h"

namespace megamoe::cuda {

struct Device : DeviceInfo {
  int index = -1;  // the current device
};

// The current device, or in `reason` why there is none ("no CUDA device was found", ...) and index -1. Never throws.
Device current_device(std::string& reason);

}  // namespace megamoe::cuda
