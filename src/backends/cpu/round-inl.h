// Rounding rows of f32 to the formats of activations, with the bytes of the scalar functions (megamoe/quant.h,
// megamoe/formats/bf16.h). Part of kernels-inl.h, for each instruction set.

#if defined(MEGAMOE_CPU_ROUND_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_ROUND_INL_H_
#undef MEGAMOE_CPU_ROUND_INL_H_
#else
#define MEGAMOE_CPU_ROUND_INL_H_
#endif

#include <algorithm>

#include "backends/cpu/decode-inl.h"
#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

constexpr int kBlockVectors = 16 / kVectorLanes;  // of a block of 16

// Magnitudes order like their bits, with NaN above infinity.
HWY_INLINE VI magnitude_bits(VF values) { return hn::BitCast(DI(), hn::Abs(values)); }

HWY_INLINE float largest_lane(VI magnitudes) {
  return float_from_bits(static_cast<std::uint32_t>(hn::GetLane(hn::MaxOfLanes(DI(), magnitudes))));
}

// To the nearest integer, ties to even, for magnitudes below 2^22.
HWY_INLINE VI nearest_int(VF values) {
  const VF magic = hn::Set(DF(), 0x1.8p23f);
  return hn::ConvertTo(DI(), hn::Sub(hn::Add(values, magic), magic));
}

// Stores a block's integers and what they add to the products with weights that are 12 too large.
HWY_INLINE void store_block(const VI (&q)[kBlockVectors], std::int8_t* to, std::int32_t* offset) {
  VI sum = hn::Zero(DI());
  for (int v = 0; v < kBlockVectors; ++v) {
    hn::StoreU(hn::DemoteTo(hn::Rebind<std::int8_t, DI>(), q[v]), hn::Rebind<std::int8_t, DI>(), to + kVectorLanes * v);
    sum = hn::Add(sum, q[v]);
  }
  *offset = -12 * hn::GetLane(hn::SumOfLanes(DI(), sum));
}

// x [count], count a multiple of 16: q [count], scale [count/64], offset [count/16].
void round_int8(const float* x, std::int64_t count, std::int8_t* q, float* scale, std::int32_t* offset) {
  constexpr float kInt8Max = 127.0f;
  for (std::int64_t begin = 0; begin < count; begin += kInt8Block) {
    const std::int64_t end = std::min<std::int64_t>(count, begin + kInt8Block);
    VI magnitudes = hn::Zero(DI());
    for (std::int64_t i = begin; i < end; i += kVectorLanes)
      magnitudes = hn::Max(magnitudes, magnitude_bits(hn::LoadU(DF(), x + i)));
    const float step = largest_lane(magnitudes) / kInt8Max;
    scale[begin / kInt8Block] = step;
    if (!(step > 0 && step < float_from_bits(kFloatInfBits))) {
      std::fill(q + begin, q + end, std::int8_t{0});
      std::fill(offset + begin / 16, offset + end / 16, 0);
      continue;
    }
    const VF divisor = hn::Set(DF(), step);
    for (std::int64_t block = begin; block < end; block += 16) {
      VI values[kBlockVectors];
      for (int v = 0; v < kBlockVectors; ++v) {
        const VF quotient = hn::Div(hn::LoadU(DF(), x + block + kVectorLanes * v), divisor);
        values[v] = nearest_int(hn::Min(hn::Max(quotient, hn::Set(DF(), -kInt8Max)), hn::Set(DF(), kInt8Max)));
      }
      store_block(values, q + block, offset + block / 16);
    }
  }
}

// Twice the nearest magnitude of E2M1, ties to the even code: 0, 1, 2, 3, 4, 6, 8 or 12, with the value's sign.
HWY_INLINE VI doubled_e2m1(VF values) {
  const VF magnitude = hn::Min(hn::Abs(values), hn::Set(DF(), kE2m1Max));
  const VI power = hn::And(hn::BitCast(DI(), hn::Max(magnitude, hn::Set(DF(), 1.0f))),
                           hn::Set(DI(), static_cast<std::int32_t>(kFloatInfBits)));
  const VF shift = hn::BitCast(DF(), hn::Add(power, hn::Set(DI(), 22 << 23)));
  const VF rounded = hn::Sub(hn::Add(magnitude, shift), shift);
  const VI doubled = hn::ConvertTo(DI(), hn::Add(rounded, rounded));
  const VI sign = hn::BroadcastSignBit(hn::BitCast(DI(), values));
  return hn::Sub(hn::Xor(doubled, sign), sign);
}

// Recipe rne with a global scale of the row's own, which it returns. x [k]: q [k] doubled, half_scale [k/16] = sf / 2,
// offset [k/16].
float round_nvfp4(const float* x, std::int64_t k, std::int8_t* q, float* half_scale, std::int32_t* offset) {
  VI magnitudes = hn::Zero(DI());
  const VI infinity = hn::Set(DI(), static_cast<std::int32_t>(kFloatInfBits));
  for (std::int64_t i = 0; i < k; i += kVectorLanes) {
    const VI bits = magnitude_bits(hn::LoadU(DF(), x + i));
    magnitudes = hn::Max(magnitudes, hn::IfThenZeroElse(hn::Gt(bits, infinity), bits));  // without NaN
  }
  const float global_scale = nvfp4_global_scale(QuantRecipe::kRne, largest_lane(magnitudes));
  for (std::int64_t block = 0; block < k; block += 16) {
    VF values[kBlockVectors];
    VI largest = hn::Zero(DI());
    for (int v = 0; v < kBlockVectors; ++v) {
      values[v] = hn::LoadU(DF(), x + block + kVectorLanes * v);
      largest = hn::Max(largest, magnitude_bits(values[v]));
    }
    const std::uint8_t sf = e4m3_from_float(largest_lane(largest) / (kE2m1Max * global_scale));
    half_scale[block / 16] = 0.5f * e4m3_to_float(sf);
    const float step = nvfp4_step(sf, global_scale);
    VI doubled[kBlockVectors];
    for (int v = 0; v < kBlockVectors; ++v)
      doubled[v] = step > 0.0f ? doubled_e2m1(hn::Div(values[v], hn::Set(DF(), step))) : hn::Zero(DI());
    store_block(doubled, q + block, offset + block / 16);
  }
  return global_scale;
}

using D16 = hn::Rebind<std::uint16_t, DU>;
using V16 = hn::Vec<D16>;

HWY_INLINE V16 bf16_bits(VF values) {
  const VU bits = hn::BitCast(DU(), values);
  const VU high = hn::ShiftRight<16>(bits);
  const VU even = hn::And(high, hn::Set(DU(), 1));
  const VU number = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(DU(), 0x7FFF)), even));
  const VU quiet = hn::Or(high, hn::Set(DU(), 0x0040));
  const auto is_nan = hn::Gt(hn::BitCast(DI(), hn::And(bits, hn::Set(DU(), 0x7FFFFFFFu))),
                             hn::Set(DI(), static_cast<std::int32_t>(kFloatInfBits)));
  const VI chosen = hn::IfThenElse(is_nan, hn::BitCast(DI(), quiet), hn::BitCast(DI(), number));
  return hn::DemoteTo(D16(), chosen);  // 0 to 65535: nothing saturates
}

// x [count] to bf16 bits, any count.
void round_bf16(const float* x, std::int64_t count, std::uint16_t* out) {
  std::int64_t i = 0;
  for (; i + kVectorLanes <= count; i += kVectorLanes) hn::StoreU(bf16_bits(hn::LoadU(DF(), x + i)), D16(), out + i);
  for (; i < count; ++i) out[i] = bf16_from_float(x[i]);
}

// x [count] to bf16 bits in the order of pairs, count a multiple of 16: elements 1 and 2 of each four change places.
bool round_bf16_pairs(const float* x, std::int64_t count, std::uint16_t* out) {
  alignas(16) static constexpr std::uint8_t kTurned[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
  const hn::Repartition<std::uint8_t, D16> d8;
  const auto turned = hn::LoadDup128(d8, kTurned);
  // One less than the magnitude puts zero above all others, so that the least one says whether there is a tiny one.
  V16 least = hn::Set(D16(), 0xFFFF);
  for (std::int64_t i = 0; i < count; i += kVectorLanes) {
    const V16 bits = bf16_bits(hn::LoadU(DF(), x + i));
    const V16 magnitude = hn::And(bits, hn::Set(D16(), 0x7FFF));
    least = hn::Min(least, hn::Sub(magnitude, hn::Set(D16(), 1)));
    hn::StoreU(hn::BitCast(D16(), hn::TableLookupBytes(hn::BitCast(d8, bits), turned)), D16(), out + i);
  }
  std::uint16_t lanes[kVectorLanes];
  hn::StoreU(least, D16(), lanes);
  return *std::min_element(lanes, lanes + kVectorLanes) < kSmallestPairBf16 - 1;
}

// bf16 bits [count] to f32, any count.
void widen_bf16(const std::uint16_t* bits, std::int64_t count, float* out) {
  const hn::Rebind<std::uint16_t, DU> d16;
  std::int64_t i = 0;
  for (; i + kVectorLanes <= count; i += kVectorLanes)
    hn::StoreU(hn::BitCast(DF(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), hn::LoadU(d16, bits + i)))), DF(), out + i);
  for (; i < count; ++i) out[i] = bf16_to_float(bits[i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
