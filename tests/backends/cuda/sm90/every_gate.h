#pragma once

#include <cstdint>

namespace megamoe::sm90::test {

struct EveryGate {
  std::uint64_t compared = 0;
  std::uint64_t wrong = 0;
  float first_wrong = 0.0f;  // one of them
};

// The tile loop's SiLU of several gates at a time, against activate(), bit by bit: of every float from 0 to the largest
// gate that it takes the short way for, and of their negatives but for -0.
EveryGate compare_every_gate();

}  // namespace megamoe::sm90::test
