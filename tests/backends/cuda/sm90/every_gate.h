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

// activate_for_bf16 against activate(), both rounded to bf16, of every float but -0, NaN among them; each with one up,
// any float made of the gate's bits.
EveryGate compare_every_gate_in_bf16();

struct ApproximateSilu {
  std::uint64_t compared = 0;
  std::uint64_t wrong_subnormals = 0;  // results that are not activate()'s, where that is subnormal
  double units = 0;                    // the farthest from activate()'s otherwise, in 2^-24 of that
  float farthest = 0.0f;               // of which gate
  double most_units = 0;               // that activate_for_bf16 allows for
};

// approximate_silu of every gate that activate_for_bf16 takes it for, against activate().
ApproximateSilu measure_approximate_silu();

}  // namespace megamoe::sm90::test
