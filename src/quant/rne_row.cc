#include "quant/rne_row.h"

#if MEGAMOE_HAVE_CPU_BACKEND  // then the build has Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/rne_row.cc"
#include "hwy/foreach_target.h"  // compiles what follows once for each instruction set
//
#include <cstring>

#include "hwy/highway.h"
#include "megamoe/quant/nvfp4_block.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE

void rne_row(const float* row, std::int64_t k, float global_scale, std::uint8_t* codes, std::uint8_t* sf) {
  for (std::int64_t b = 0; b < k / kNvfp4Block; ++b)
    sf[b] = nvfp4_block_rne(row + b * kNvfp4Block, global_scale, codes + b * kNvfp4BlockBytes);
}

#else

using DF = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<DF>;
constexpr int kVectorLanes = HWY_LANES(float) < 16 ? HWY_LANES(float) : 16;
constexpr int kVectors = kNvfp4Block / kVectorLanes;

// E2M1 codes of quotients, in i32: magnitude rounded to nearest, ties to the even code (e2m1_from_float), sign kept.
HWY_INLINE hn::Vec<DI> codes_of(hn::Vec<DF> values) {
  const DF d;
  const DI di;
  const auto magnitude = hn::Min(hn::Abs(values), hn::Set(d, kE2m1Max));
  // Adding 2^22 times the magnitude's power of two, at least 1, leaves the bits that E2M1 has: what is added to the
  // exponent counts codes, two for each power.
  const auto power = hn::And(hn::BitCast(di, hn::Max(magnitude, hn::Set(d, 1.0f))),
                             hn::Set(di, static_cast<std::int32_t>(kFloatInfBits)));
  const auto shift = hn::Add(power, hn::Set(di, 22 << 23));
  const auto steps = hn::Sub(hn::BitCast(di, hn::Add(magnitude, hn::BitCast(d, shift))), shift);
  const auto code_of_power = hn::ShiftLeft<1>(hn::Sub(hn::ShiftRight<23>(power), hn::Set(di, 127)));
  const auto sign = hn::And(hn::ShiftRight<28>(hn::BitCast(di, values)), hn::Set(di, 8));
  return hn::Or(hn::Add(steps, code_of_power), sign);
}

// Eight codes, a byte each, to four bytes.
HWY_INLINE void pack_codes(const std::uint8_t* bytes, std::uint8_t* codes) {
  std::uint64_t x;
  std::memcpy(&x, bytes, sizeof(x));
  x = (x | x >> 4) & 0x00FF00FF00FF00FFu;
  x = (x | x >> 8) & 0x0000FFFF0000FFFFu;
  const auto packed = static_cast<std::uint32_t>(x | x >> 16);
  std::memcpy(codes, &packed, sizeof(packed));
}

void rne_row(const float* row, std::int64_t k, float global_scale, std::uint8_t* codes, std::uint8_t* sf) {
  const DF d;
  const DI di;
  const hn::Rebind<std::uint8_t, DI> d8;
  for (std::int64_t block = 0; block < k / kNvfp4Block; ++block, row += kNvfp4Block, codes += kNvfp4BlockBytes) {
    hn::Vec<DF> values[kVectors];
    auto largest = hn::Zero(di);
    for (int v = 0; v < kVectors; ++v) {
      values[v] = hn::LoadU(d, row + kVectorLanes * v);
      largest = hn::Max(largest, hn::BitCast(di, hn::Abs(values[v])));
    }
    const float amax = float_from_bits(static_cast<std::uint32_t>(hn::GetLane(hn::MaxOfLanes(di, largest))));
    sf[block] = e4m3_from_float(amax / (kE2m1Max * global_scale));
    const float step = nvfp4_step(sf[block], global_scale);
    if (!(step > 0.0f)) {
      for (int i = 0; i < kNvfp4BlockBytes; ++i) codes[i] = 0;
      continue;
    }
    std::uint8_t bytes[kNvfp4Block];
    for (int v = 0; v < kVectors; ++v)
      hn::StoreU(hn::DemoteTo(d8, codes_of(hn::Div(values[v], hn::Set(d, step)))), d8, bytes + kVectorLanes * v);
    pack_codes(bytes, codes);
    pack_codes(bytes + 8, codes + 4);
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace megamoe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace megamoe {

HWY_EXPORT(rne_row);

void quantize_rne_row(std::span<const float> row, float global_scale, std::uint8_t* codes, std::uint8_t* sf) noexcept {
  HWY_DYNAMIC_DISPATCH(rne_row)(row.data(), static_cast<std::int64_t>(row.size()), global_scale, codes, sf);
}

}  // namespace megamoe
#endif  // HWY_ONCE

#else

#include "megamoe/quant.h"

namespace megamoe {

void quantize_rne_row(std::span<const float> row, float global_scale, std::uint8_t* codes, std::uint8_t* sf) noexcept {
  quantize_nvfp4_row(QuantRecipe::kRne, row, global_scale, codes, sf);
}

}  // namespace megamoe
#endif
