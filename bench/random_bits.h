// Random bits from a counter: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
// The n-th word depends on the seed and n alone, so data is the same whichever thread makes it.
#pragma once

#include <cstdint>

#include "megamoe/host_device.h"

namespace megamoe::bench {

class RandomBits {
 public:
  MEGAMOE_HD explicit RandomBits(std::uint64_t seed) : state_(seed) {}

  MEGAMOE_HD std::uint64_t next() {
    state_ += kStep;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // As if next() had been called that often.
  MEGAMOE_HD void skip(std::uint64_t words) { state_ += words * kStep; }

  // Uniform in [0, 1), in steps of 2^-24: exact in float.
  MEGAMOE_HD float uniform() { return static_cast<float>(next() >> 40) * 0x1p-24f; }

  // Close to normal with deviation 1 (the sum of four uniforms), never beyond 3.5.
  MEGAMOE_HD float normal() {
    constexpr float kDeviationInv = 1.7320508f;  // four uniforms have variance 4 / 12
    return (uniform() + uniform() + uniform() + uniform() - 2.0f) * kDeviationInv;
  }

  // Uniform in [0, bound); the bias of the multiplication is below bound / 2^32.
  MEGAMOE_HD std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(((next() >> 32) * static_cast<std::uint64_t>(bound)) >> 32);
  }

 private:
  static constexpr std::uint64_t kStep = 0x9E3779B97F4A7C15u;

  std::uint64_t state_;
};

}  // namespace megamoe::bench
