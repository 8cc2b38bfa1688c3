// The inner products of the cpu backend, one set of functions for each instruction set that Highway compiled; the best
// one the machine has is chosen once, when a plan is made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"

namespace megamoe::cpu {

// Rows of activations as the kernels read them. K is padded to a multiple of 64 with zeros.
//   int8   q = int8 values, scale [k/64]: value = q * scale
//   nvfp4  q = doubled codes (0, +-1, +-2, +-3, +-4, +-6, +-8, +-12), scale [k/16] = sf / 2; the row's global scale is
//          multiplied in after the product
//   bf16   wide = the values as f32
// offset [k/16]: -12 * sum of the block's q, the products' correction for weights stored as 2 * e2m1 + 12.
struct ActivationRow {
  const std::int8_t* q = nullptr;
  const float* scale = nullptr;
  const std::int32_t* offset = nullptr;
  const float* wide = nullptr;
};

// One group of 32 lanes times `rows` rows of activations:
//   out[r * 32 + lane] = sum over k of weight[lane, k] * activation[r, k], without global scales
// Each sum runs over k in an order that depends on nothing but k, so a row's result does not depend on its neighbours.
using DotFunction = void (*)(const std::byte* panel, std::int64_t k, const ActivationRow* activations,
                             std::int64_t rows, float* out);

// out[i] = activate(activation, gate[i], up[i]) for `count` elements; same bits as the scalar function.
using ActivateFunction = void (*)(const Activation& activation, const float* gate, const float* up, std::int64_t count,
                                  float* out);

// sum[i] = fma(weight, y[i], sum[i])
using AxpyFunction = void (*)(float weight, const float* y, std::int64_t count, float* sum);

struct Kernels {
  std::string_view target;  // Highway's name: "AVX3_DL", "AVX2", ...
  DotFunction nvfp4_int8 = nullptr;
  DotFunction nvfp4_nvfp4 = nullptr;
  DotFunction nvfp4_bf16 = nullptr;
  DotFunction bf16_bf16 = nullptr;
  ActivateFunction activate = nullptr;
  AxpyFunction axpy = nullptr;

  DotFunction dot(WeightFormat weights, ActivationFormat activations) const noexcept;
};

// Of the chosen instruction set: the best of this machine, unless a TargetOverride is alive.
const Kernels& kernels();

// Instruction sets that this build holds and this machine runs, best first.
std::vector<std::string> targets();

// Makes plans use one instruction set while it lives; for tests, one at a time in a process.
class TargetOverride {
 public:
  explicit TargetOverride(std::string_view target);  // throws kUnsupported for one not in targets()
  ~TargetOverride();
  TargetOverride(const TargetOverride&) = delete;
  TargetOverride& operator=(const TargetOverride&) = delete;
};

}  // namespace megamoe::cpu
