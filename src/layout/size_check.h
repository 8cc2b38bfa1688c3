#pragma once

#include <cstdint>
#include <string_view>

#include "megamoe/error.h"

namespace megamoe {

inline void require_layout_bytes(std::string_view what, std::size_t found, std::int64_t expected) {
  if (expected < 0 || found != static_cast<std::size_t>(expected))
    throw Error(Code::kInvalidArgument, "layout: ", what, " has ", found, " bytes, expected ", expected);
}

}  // namespace megamoe
