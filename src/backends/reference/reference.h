// The reference backend: every valid problem, on every machine, in plain loops. It is the definition that other
// backends are compared with, so it is written to be read, and is not fast.
#pragma once

#include "moe/backend.h"

namespace megamoe {

const Backend& reference_backend();

}  // namespace megamoe
