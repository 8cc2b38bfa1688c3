// The Hopper backend: H100 and H200.
#pragma once

#include "moe/backend.h"

namespace megamoe {

const Backend& sm90_backend();

}  // namespace megamoe
