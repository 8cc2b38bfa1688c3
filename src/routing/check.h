// The one complaint that all of routing shares.
#pragma once

#include <cstddef>

#include "megamoe/error.h"

namespace megamoe {

inline void check_elements(const char* what, std::size_t found, std::size_t accepted) {
  if (found != accepted) {
    throw Error(Code::kInvalidArgument, what, ": found ", found, " elements, accepted: ", accepted);
  }
}

}  // namespace megamoe
