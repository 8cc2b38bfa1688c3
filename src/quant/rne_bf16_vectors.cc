// First the scales of 64 blocks, sixteen at a time: one division, one rounding to E4M3 and one reciprocal serve a vector
// of them. Then their numbers: a vector of 32-bit words holds two neighbours each, the even ones and the odd ones become
// two vectors of floats without a shuffle, and their codes one byte a word. Every step has the result of the function of
// formats/ or quant/nvfp4_block.h that it stands for, and says which.
//
// Bound by arithmetic: some 24 operations for 16 numbers, a third of them for the error statistics. With scales and
// numbers in turns for every 16 blocks, the divisions' latency was a third of the time (Zen 4).
#include "quant/rne_bf16_vectors.h"

#if MEGAMOE_HAVE_CPU_BACKEND  // then the build has Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/rne_bf16_vectors.cc"
#include "hwy/foreach_target.h"  // compiles what follows once for each instruction set
//
#include <algorithm>

#include "hwy/highway.h"
#include "megamoe/quant/nvfp4_block.h"
#include "quant/nvfp4_fast_block.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE

std::int64_t bf16_amax(const std::byte*, std::int64_t, bool, std::uint16_t*) { return 0; }

std::int64_t rne_bf16(const std::byte*, std::int64_t, float, std::uint8_t*, std::uint8_t*, ErrorStats*) {
  return 0;
}

#else

// Returns how many numbers it has looked at: whole runs of four vectors.
std::int64_t bf16_amax(const std::byte* data, std::int64_t count, bool ignore_nan, std::uint16_t* amax) {
  const hn::ScalableTag<std::int16_t> d;  // magnitudes are positive, and signed comparisons are what every target has
  constexpr std::int64_t kLanes = HWY_LANES(std::int16_t);
  const auto magnitude = hn::Set(d, 0x7FFF);
  const auto infinity = hn::Set(d, 0x7F80);
  auto largest0 = hn::Zero(d), largest1 = largest0, largest2 = largest0, largest3 = largest0;
  const auto load = [&](std::int64_t at) HWY_ATTR {
    return hn::And(hn::LoadU(d, reinterpret_cast<const std::int16_t*>(data) + at), magnitude);
  };
  const auto numbers = [&](auto value) HWY_ATTR { return hn::IfThenZeroElse(hn::Gt(value, infinity), value); };
  std::int64_t at = 0;
  if (ignore_nan) {
    for (; at + 4 * kLanes <= count; at += 4 * kLanes) {
      largest0 = hn::Max(largest0, numbers(load(at)));
      largest1 = hn::Max(largest1, numbers(load(at + kLanes)));
      largest2 = hn::Max(largest2, numbers(load(at + 2 * kLanes)));
      largest3 = hn::Max(largest3, numbers(load(at + 3 * kLanes)));
    }
  } else {
    for (; at + 4 * kLanes <= count; at += 4 * kLanes) {
      largest0 = hn::Max(largest0, load(at));
      largest1 = hn::Max(largest1, load(at + kLanes));
      largest2 = hn::Max(largest2, load(at + 2 * kLanes));
      largest3 = hn::Max(largest3, load(at + 3 * kLanes));
    }
  }
  alignas(64) std::int16_t lanes[kLanes];
  hn::Store(hn::Max(hn::Max(largest0, largest1), hn::Max(largest2, largest3)), d, lanes);
  for (const std::int16_t lane : lanes)
    if (lane > *amax) *amax = static_cast<std::uint16_t>(lane);
  return at;
}

using DF = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using VF = hn::Vec<DF>;
constexpr int kLanesF = HWY_LANES(float) < 16 ? HWY_LANES(float) : 16;

// On what x86 calls AVX2 and above, and on Arm, a multiply-add is fused, and a quotient is two operations.
#if HWY_ARCH_X86 && HWY_TARGET > HWY_AVX2
constexpr bool kHasFma = false;
#else
constexpr bool kHasFma = true;
#endif

constexpr int kBatch = 16;           // blocks whose scales are made together
constexpr int kRun = 4 * kBatch;     // blocks between looking for scales and looking for codes
constexpr int kWordsOfBlock = kNvfp4Block / 2;

// What the numbers of a run are divided by.
struct Steps {
  alignas(64) float step[kRun];
  alignas(64) float high[kRun];  // StepReciprocal
  alignas(64) float low[kRun];
};

// Lane i: the largest magnitude of block i. Highest bits of BF16 order like the numbers.
HWY_INLINE void block_amax(const std::int16_t* x, std::uint16_t* amax) {
  const hn::FixedTag<std::int16_t, 8> d;
  const auto magnitude = hn::Set(d, 0x7FFF);
  const auto block = [&](int b) HWY_ATTR {
    return hn::Max(hn::And(hn::LoadU(d, x + 16 * b), magnitude), hn::And(hn::LoadU(d, x + 16 * b + 8), magnitude));
  };
  const auto merge = [&](auto a, auto b) HWY_ATTR {
    return hn::Max(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  };
  // Each merge interleaves, so eight blocks in the order of reversed bits come out in their own.
  for (int half = 0; half < 16; half += 8) {
    const auto even = merge(merge(block(half), block(half + 4)), merge(block(half + 2), block(half + 6)));
    const auto odd = merge(merge(block(half + 1), block(half + 5)), merge(block(half + 3), block(half + 7)));
    hn::StoreU(merge(even, odd), d, reinterpret_cast<std::int16_t*>(amax) + half);
  }
}

// Block scales and steps of sixteen blocks from block `first` of a run on; false where one of them has no fast form
// (nvfp4_has_fast_form).
HWY_INLINE bool block_scales(const std::uint16_t* amax_bits, float global_scale, int first, std::uint8_t* sf,
                             Steps& steps) {
  const DF d;
  const DI di;
  const DU du;
  const hn::Rebind<std::uint16_t, DF> d16;
  const hn::Rebind<std::uint8_t, DF> d8;
  bool all = true;
  for (int i = 0; i < kBatch; i += kLanesF) {
    const auto amax = hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, amax_bits + i))));
    // e4m3_from_float: adding 2^20 times the power of two below, at least 2^-6, leaves the bits that E4M3 has.
    const auto exact = hn::Min(hn::Div(amax, hn::Set(d, kE2m1Max * global_scale)), hn::Set(d, kNvfp4ScaleMax));
    const auto power = hn::And(hn::BitCast(di, hn::Max(exact, hn::Set(d, 0x1p-6f))),
                               hn::Set(di, static_cast<std::int32_t>(kFloatInfBits)));
    const auto shift = hn::Add(power, hn::Set(di, 20 << 23));
    const auto shifted = hn::Add(exact, hn::BitCast(d, shift));
    const auto in_binade = hn::Sub(hn::BitCast(di, shifted), shift);
    const auto code = hn::Add(in_binade, hn::Sub(hn::ShiftRight<20>(power), hn::Set(di, 121 << 3)));
    hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, code)), d8, sf + i);

    const auto scale = hn::Sub(shifted, hn::BitCast(d, shift));
    const auto step = hn::Mul(scale, hn::Set(d, global_scale));
    hn::Store(step, d, steps.step + first + i);
    const auto in_range = hn::And(hn::Ge(step, hn::Set(d, 0x1p-60f)), hn::Le(step, hn::Set(d, 0x1p60f)));
    all = all && hn::AllTrue(d, hn::And(in_range, hn::Le(amax, hn::Mul(step, hn::Set(d, 6.875f)))));
    if constexpr (kHasFma) {
      const auto high = hn::Div(hn::Set(d, 1.0f), step);
      const auto remainder = hn::NegMulAdd(step, high, hn::Set(d, 1.0f));
      const auto low = hn::Mul(remainder, high);
      hn::Store(high, d, steps.high + first + i);
      hn::Store(hn::MulAdd(low, remainder, low), d, steps.low + first + i);
    }
  }
  return all;
}

// Lane i: the value of the block that word `first` + i of a run is in.
HWY_INLINE VF of_block(const float* values, int first) {
  const DF d;
#if HWY_MAX_BYTES >= 64
  const hn::Half<DF> half;  // a vector has two blocks
  return hn::Combine(d, hn::Set(half, values[first / kWordsOfBlock + 1]), hn::Set(half, values[first / kWordsOfBlock]));
#else
  return hn::Set(d, values[first / kWordsOfBlock]);
#endif
}

// Squares that each lane has seen in one run, and the largest error of all.
struct Sums {
  VF want2, error2, largest;
};

struct Divisor {
  VF step, high, low;
};

// Low three bits: the code of the magnitude x / step.
template <bool kWithError>
HWY_INLINE hn::Vec<DU> code_of(VF x, const Divisor& by, Sums& sums) {
  const DF d;
  const DI di;
  const DU du;
  VF quotient;
  if constexpr (kHasFma)
    quotient = hn::MulAdd(x, by.high, hn::Mul(x, by.low));
  else
    quotient = hn::Div(x, by.step);
  // Adding 2^22 times the power of two below, at least 1, leaves the bits that E2M1 has. With two units in the last
  // place more for each power above 1, the last bits of the sum are the code.
  const auto power = hn::And(hn::BitCast(di, hn::Max(quotient, hn::Set(d, 1.0f))),
                             hn::Set(di, static_cast<std::int32_t>(kFloatInfBits)));
  const auto shift =
      hn::BitCast(d, hn::Add(hn::Add(power, hn::ShiftRight<22>(power)), hn::Set(di, (22 << 23) - 2 * 127)));
  const auto shifted = hn::Add(quotient, shift);
  if constexpr (kWithError) {
    const auto error = hn::Sub(hn::Mul(hn::Sub(shifted, shift), by.step), x);
    sums.error2 = hn::MulAdd(error, error, sums.error2);
    sums.want2 = hn::MulAdd(x, x, sums.want2);
    sums.largest = hn::Max(sums.largest, hn::Abs(error));
  }
  return hn::BitCast(du, shifted);
}

// A run's numbers, under scales that are known.
template <bool kWithError>
HWY_INLINE void run_codes(const std::uint32_t* words, int blocks, const Steps& steps, std::uint8_t* codes, Sums& sums) {
  const DF d;
  const DU du;
  const hn::Rebind<std::uint8_t, DF> d8;
  for (int first = 0; first < kWordsOfBlock * blocks; first += kLanesF) {
    Divisor by;
    by.step = of_block(steps.step, first);
    if constexpr (kHasFma) {
      by.high = of_block(steps.high, first);
      by.low = of_block(steps.low, first);
    }
    const auto pairs = hn::LoadU(du, words + first);
    const auto magnitudes = hn::And(pairs, hn::Set(du, 0x7FFF7FFFu));
    const auto even = hn::BitCast(d, hn::ShiftLeft<16>(magnitudes));
    const auto odd = hn::BitCast(d, hn::And(magnitudes, hn::Set(du, 0xFFFF0000u)));
    const auto even_codes = hn::And(code_of<kWithError>(even, by, sums), hn::Set(du, 7));
    const auto odd_codes = hn::And(hn::ShiftLeft<4>(code_of<kWithError>(odd, by, sums)), hn::Set(du, 0x70));
    const auto signs = hn::Or(hn::And(hn::ShiftRight<12>(pairs), hn::Set(du, 8)),
                              hn::And(hn::ShiftRight<24>(pairs), hn::Set(du, 0x80)));
    hn::StoreU(hn::TruncateTo(d8, hn::Or(hn::Or(even_codes, odd_codes), signs)), d8, codes + first);
  }
}

template <bool kWithError>
std::int64_t rne_bf16_of(const std::byte* data, std::int64_t blocks, float global_scale, std::uint8_t* codes,
                         std::uint8_t* sf, ErrorStats* stats) {
  const DF d;
  double want2 = 0.0, error2 = 0.0;
  auto largest = hn::Zero(d);
  std::int64_t done = 0;
  for (bool is_fast = true; is_fast && done + kBatch <= blocks;) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(data) + kWordsOfBlock * done;
    Steps steps;
    alignas(64) std::uint16_t amax[kRun];
    const int whole = static_cast<int>(std::min<std::int64_t>(kRun, (blocks - done) / kBatch * kBatch));
    for (int b = 0; b < whole; b += kBatch)
      block_amax(reinterpret_cast<const std::int16_t*>(words + kWordsOfBlock * b), amax + b);
    int run = 0;
    for (; run < whole; run += kBatch) {
      is_fast = block_scales(amax + run, global_scale, run, sf + done + run, steps);
      if (!is_fast) break;
    }
    Sums sums{hn::Zero(d), hn::Zero(d), largest};
    run_codes<kWithError>(words, run, steps, codes + kWordsOfBlock * done, sums);
    if constexpr (kWithError) {
      want2 += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sums.want2)));
      error2 += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sums.error2)));
      largest = sums.largest;
    }
    done += run;
  }
  if constexpr (kWithError)
    stats->add(kNvfp4Block * done, want2, error2, static_cast<double>(hn::GetLane(hn::MaxOfLanes(d, largest))));
  return done;
}

// Quantises batches of sixteen blocks up to the first that it can not do, and returns how many blocks that were.
std::int64_t rne_bf16(const std::byte* data, std::int64_t blocks, float global_scale, std::uint8_t* codes,
                              std::uint8_t* sf, ErrorStats* stats) {
  return stats == nullptr ? rne_bf16_of<false>(data, blocks, global_scale, codes, sf, stats)
                          : rne_bf16_of<true>(data, blocks, global_scale, codes, sf, stats);
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace megamoe
HWY_AFTER_NAMESPACE();


#if HWY_ONCE
namespace megamoe {

HWY_EXPORT(bf16_amax);
HWY_EXPORT(rne_bf16);

std::int64_t bf16_amax_by_vectors(const std::byte* data, std::int64_t count, bool ignore_nan,
                                  std::uint16_t* amax) noexcept {
  return HWY_DYNAMIC_DISPATCH(bf16_amax)(data, count, ignore_nan, amax);
}

std::int64_t rne_bf16_by_vectors(const std::byte* data, std::int64_t blocks, float global_scale, std::uint8_t* codes,
                                 std::uint8_t* sf, ErrorStats* error) noexcept {
  return HWY_DYNAMIC_DISPATCH(rne_bf16)(data, blocks, global_scale, codes, sf, error);
}

}  // namespace megamoe
#endif  // HWY_ONCE

#else

namespace megamoe {

std::int64_t bf16_amax_by_vectors(const std::byte*, std::int64_t, bool, std::uint16_t*) noexcept { return 0; }

std::int64_t rne_bf16_by_vectors(const std::byte*, std::int64_t, float, std::uint8_t*, std::uint8_t*,
                                 ErrorStats*) noexcept {
  return 0;
}

}  // namespace megamoe
#endif
