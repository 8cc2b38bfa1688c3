// The inner loops of the cpu backend, one set of functions for each instruction set that Highway compiled; one of them
// is chosen when a plan is made.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"

namespace megamoe::cpu {

// Rows of activations as the kernels read them. K is padded to a multiple of 64 with zeros, but for bf16.
//   int8   q = int8 values, scale [k/64]: value = q * scale
//   nvfp4  q = doubled codes (0, +-1, +-2, +-3, +-4, +-6, +-8, +-12), scale [k/16] = sf / 2; the row's global scale is
//          multiplied in after the product
//   bf16   wide = the values as f32; or, where the kernels say bf16_rows, bf16 = their bits in the order of pairs
//          (packed_layout.h), and is_tiny where a value is below 2^-90 but not zero
// offset [k/16]: -12 * sum of the block's q, the products' correction for weights stored as 2 * e2m1 + 12.
// Without initialisers, as GateUp is: clearing the arrays of these for each item cost a token 20 % of its time.
struct ActivationRow {
  const std::int8_t* q;
  const float* scale;
  const std::int32_t* offset;
  const float* wide;
  const std::uint16_t* bf16;
  bool is_tiny;
};

// `panels` groups of 32 lanes, one behind the other in memory, times `rows` rows of activations:
//   out[(p * rows + r) * 32 + lane] = sum over k of weight[p, lane, k] * activation[r, k], without global scales
// Each sum runs over k in an order that depends on nothing but k, so a row's result does not depend on its neighbours.
using DotFunction = void (*)(const std::byte* panel, std::int64_t k, std::int64_t panels,
                             const ActivationRow* activations, std::int64_t rows, float* out);

// x [count] in f32 to what ActivationRow says of a format, with the bytes of quantize_int8_row and of
// quantize_nvfp4_row by recipe rne; count is a multiple of 16, and the blocks of int8 begin at x. round_nvfp4 takes a
// whole row, and returns its global scale.
using RoundInt8Function = void (*)(const float* x, std::int64_t count, std::int8_t* q, float* scale,
                                   std::int32_t* offset);
using RoundNvfp4Function = float (*)(const float* x, std::int64_t k, std::int8_t* q, float* half_scale,
                                     std::int32_t* offset);
// bf16_from_float and bf16_to_float of `count` elements.
using RoundBf16Function = void (*)(const float* x, std::int64_t count, std::uint16_t* out);
using WidenBf16Function = void (*)(const std::uint16_t* bits, std::int64_t count, float* out);
// As RoundBf16Function, in the order of pairs; count is a multiple of 16. Returns whether a value is tiny.
using RoundBf16PairsFunction = bool (*)(const float* x, std::int64_t count, std::uint16_t* out);

// out[i] = activate(activation, gate[i], up[i]) for `count` elements; same bits as the scalar function.
using ActivateFunction = void (*)(const Activation& activation, const float* gate, const float* up, std::int64_t count,
                                  float* out);

// What turns a gate|up group's 32 sums into the results of its 16 channels.
struct GateUp {
  float gate_scale;  // global scales of weights and row
  float up_scale;
  const float* gate_bias;  // [16], or null for both
  const float* up_bias;
  float row_weight;  // of the result
};
using GateUpFunction = void (*)(const Activation& activation, const GateUp& of, const float* sums, float* out);

// sum[i] = fma(weight, y[i], sum[i])
using AxpyFunction = void (*)(float weight, const float* y, std::int64_t count, float* sum);

// y[i] = sums[i] * scale, and + bias[i] * row_weight where bias is not null; each operation is rounded.
using ScaleFunction = void (*)(const float* sums, float scale, const float* bias, float row_weight, std::int64_t count,
                               float* y);

// Canonical codes of `rows` rows, a multiple of 4 and row_bytes apart, `tiles` tiles of 64 elements of each, into the
// words of packed tiles; `out` is the first row's first word.
using PackWordsFunction = void (*)(const std::byte* codes, std::int64_t row_bytes, std::int64_t rows,
                                   std::int64_t tiles, std::byte* out);

// The same of block scales, `tiles` being a multiple of 4; `out` is the first row's first scale. Returns false where a
// scale is zero, subnormal or none: then nothing that was written means anything.
using PackScalesFunction = bool (*)(const std::byte* sf, std::int64_t row_bytes, std::int64_t rows, std::int64_t tiles,
                                    std::byte* out);

struct Kernels {
  std::string_view target;  // Highway's name: "AVX3_DL", "AVX2", ...; or "AVX3_BF16"
  bool bf16_rows = false;   // what nvfp4_bf16 and bf16_bf16 read
  DotFunction nvfp4_int8 = nullptr;
  DotFunction nvfp4_nvfp4 = nullptr;
  DotFunction nvfp4_bf16 = nullptr;
  DotFunction bf16_bf16 = nullptr;
  RoundInt8Function round_int8 = nullptr;
  RoundNvfp4Function round_nvfp4 = nullptr;
  RoundBf16Function round_bf16 = nullptr;
  RoundBf16PairsFunction round_bf16_pairs = nullptr;
  WidenBf16Function widen_bf16 = nullptr;
  ActivateFunction activate = nullptr;
  GateUpFunction gate_up = nullptr;
  ScaleFunction scale = nullptr;
  AxpyFunction axpy = nullptr;
  PackWordsFunction pack_words = nullptr;
  PackScalesFunction pack_scales = nullptr;

  DotFunction dot(WeightFormat weights, ActivationFormat activations) const noexcept;
};

// Of the instruction set `isa`; where that is empty, of a TargetOverride that is alive, of the environment's
// MEGAMOE_ISA, or of this machine's best, in this order. Throws kUnsupported for a name that is not in targets();
// capitals do not matter.
const Kernels& kernels(std::string_view isa = {});

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
