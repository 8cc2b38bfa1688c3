// The `cpu` backend: packed weights, vector kernels of the best instruction set, oneTBB threads.
#pragma once

#include "moe/backend.h"

namespace megamoe {

const Backend& cpu_backend();

}  // namespace megamoe
