// First the scales of 64 blocks, sixteen at a time: one division and one rounding to E4M3 serve a vector of them. Then
// their numbers. Every step has the result of the function of formats/ or quant/nvfp4_block.h that it stands for, and
// says which. With scales and numbers in turns for every 16 blocks, the divisions' latency was a third of the time
// (Zen 4).
//
// Where AVX-512 has VBMI2, numbers become codes as 16-bit integers (rne_bf16_bins-inl.h). Elsewhere as quotients: one
// reciprocal serves a block; a vector of 32-bit words holds two neighbours each, the even ones and the odd ones become
// two vectors of floats without a shuffle, and their codes one byte a word.
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
#if HWY_TARGET == HWY_AVX3_DL
#include "quant/rne_bf16_bins-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace megamoe {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE

std::int64_t rne_bf16(const std::byte*, std::int64_t, const std::uint16_t*, float, std::uint8_t*, std::uint8_t*,
                      ErrorStats*) {
  return 0;
}

#else

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

constexpr int kBatch = 16;  // blocks whose scales are made together
// Blocks between making scales and making codes, and of one f32 sum of squares. Long enough that the latency of a run's
// first scales is nothing.
constexpr int kRun = (HWY_TARGET == HWY_AVX3_DL ? 16 : 4) * kBatch;
constexpr int kWordsOfBlock = kNvfp4Block / 2;

// Block scales of sixteen blocks, whose steps go to keep(i, steps of blocks i and on); false where one of them has no
// fast form: nvfp4_has_fast_form, but for the range of steps (steps_are_in_range), and for a step of 0.
template <class Keep>
HWY_INLINE bool block_scales(const std::uint16_t* amax_bits, float global_scale, std::uint8_t* sf, const Keep& keep) {
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
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sf + i), _mm512_cvtepi32_epi8(code.raw));
#else
    hn::StoreU(hn::TruncateTo(d8, hn::BitCast(du, code)), d8, sf + i);
#endif

    const auto scale = hn::Sub(shifted, hn::BitCast(d, shift));
    const auto step = hn::Mul(scale, hn::Set(d, global_scale));
    keep(i, step);
    all = all && hn::AllTrue(d, hn::Lt(amax, hn::Mul(step, hn::Set(d, 6.875f))));
  }
  return all;
}

#if HWY_TARGET == HWY_AVX3_DL

std::int64_t rne_bf16(const std::byte* data, std::int64_t blocks, const std::uint16_t* amax, float global_scale,
                      std::uint8_t* codes, std::uint8_t* sf, ErrorStats* stats) {
  const __m512 zero = _mm512_setzero_ps();
  Bins bins;
  make_bins(global_scale, stats != nullptr, bins);
  alignas(64) std::uint32_t bases[kRun];
  double squares = 0.0, error_squares = 0.0;
  BinErrors errors{zero, zero, zero};
  std::int64_t done = 0;
  for (bool is_fast = true; is_fast && done + kBatch <= blocks;) {
    const auto whole = static_cast<int>(std::min<std::int64_t>(kRun, (blocks - done) / kBatch * kBatch));
    int run = 0;
    for (; run < whole; run += kBatch) {
      is_fast = block_scales(amax + done + run, global_scale, sf + done + run,
                             [&](int i, VF step) HWY_ATTR { _mm512_store_si512(bases + run + i, base_of(step.raw)); });
      if (!is_fast) break;
    }
    const std::byte* from = data + 2 * kNvfp4Block * done;
    std::uint8_t* to = codes + kNvfp4BlockBytes * done;
    if (stats == nullptr) {
      codes_by_bins<false>(from, run, bases, sf + done, bins, to, errors);
    } else {
      errors.squares = errors.error_squares = zero;
      codes_by_bins<true>(from, run, bases, sf + done, bins, to, errors);
      squares += static_cast<double>(_mm512_reduce_add_ps(errors.squares));
      error_squares += static_cast<double>(_mm512_reduce_add_ps(errors.error_squares));
    }
    done += run;
  }
  if (stats != nullptr)
    stats->add(kNvfp4Block * done, squares, error_squares,
               static_cast<double>(_mm512_reduce_max_ps(_mm512_abs_ps(errors.largest))));
  return done;
}

#else

// What the numbers of a run are divided by.
struct Steps {
  alignas(64) float step[kRun];
  alignas(64) float high[kRun];  // StepReciprocal
  alignas(64) float low[kRun];
};

// Steps of blocks from block `first` of a run on.
HWY_INLINE void set_steps(int first, VF step, Steps& steps) {
  const DF d;
  hn::Store(step, d, steps.step + first);
  if constexpr (kHasFma) {
    const auto high = hn::Div(hn::Set(d, 1.0f), step);
    const auto remainder = hn::NegMulAdd(step, high, hn::Set(d, 1.0f));
    const auto low = hn::Mul(remainder, high);
    hn::Store(high, d, steps.high + first);
    hn::Store(hn::MulAdd(low, remainder, low), d, steps.low + first);
  }
}

// Lane i: the value of the block that word `first` + i of a run is in.
HWY_INLINE VF of_block(const float* values, int first) {
  const DF d;
  const VF all = hn::Set(d, values[first / kWordsOfBlock]);
  if constexpr (kLanesF == kWordsOfBlock * 2)  // a vector has two blocks
    return hn::IfThenElse(hn::FirstN(d, kWordsOfBlock), all, hn::Set(d, values[first / kWordsOfBlock + 1]));
  return all;
}

// Squares of the numbers and of the errors that each lane has seen in one run, and the largest error of all.
struct Errors {
  VF squares, error_squares, largest;
};

struct Divisor {
  VF step, high, low;
};

#undef MEGAMOE_RNE_AVX3
#if HWY_TARGET == HWY_AVX3
#define MEGAMOE_RNE_AVX3 1
#else
#define MEGAMOE_RNE_AVX3 0
#endif

// What to add to a quotient so that the bits are left that E2M1 has: 2^22 times the power of two below it, at least 1.
// With two units in the last place more for each power above 1, the last bits of the sum are the code.
HWY_INLINE VF shift_of(VF quotient) {
  const DF d;
  const DI di;
  const auto at_least_1 = hn::BitCast(di, hn::Max(quotient, hn::Set(d, 1.0f)));
#if MEGAMOE_RNE_AVX3
  // By the exponent's last four bits: 15 for quotients below 2, then 0 and 1.
  const __m512i shifts = _mm512_set_epi32(149 << 23, 149 << 23, 149 << 23, 149 << 23, 149 << 23, 149 << 23, 149 << 23,
                                          149 << 23, 149 << 23, 149 << 23, 149 << 23, 149 << 23, 149 << 23, 149 << 23,
                                          (151 << 23) + 4, (150 << 23) + 2);
  return VF{_mm512_castsi512_ps(_mm512_permutexvar_epi32(hn::ShiftRight<23>(at_least_1).raw, shifts))};
#else
  const auto power = hn::And(at_least_1, hn::Set(di, static_cast<std::int32_t>(kFloatInfBits)));
  return hn::BitCast(d, hn::Add(hn::Add(power, hn::ShiftRight<22>(power)), hn::Set(di, (22 << 23) - 2 * 127)));
#endif
}

// Last four bits: the code of the magnitude x / step.
template <bool kWithErrors>
HWY_INLINE hn::Vec<DU> code_of(VF x, const Divisor& by, Errors& errors) {
  const DF d;
  const DU du;
  VF quotient;
  if constexpr (kHasFma)
    quotient = hn::MulAdd(x, by.high, hn::Mul(x, by.low));
  else
    quotient = hn::Div(x, by.step);
  const VF shift = shift_of(quotient);
  const VF shifted = hn::Add(quotient, shift);
  if constexpr (kWithErrors) {
    const VF error = hn::MulSub(hn::Sub(shifted, shift), by.step, x);
    errors.squares = hn::MulAdd(x, x, errors.squares);
    errors.error_squares = hn::MulAdd(error, error, errors.error_squares);
#if MEGAMOE_RNE_AVX3
    errors.largest = VF{_mm512_range_ps(errors.largest.raw, error.raw, 0xB)};  // the larger magnitude
#else
    errors.largest = hn::Max(errors.largest, hn::Abs(error));
#endif
  }
  return hn::BitCast(du, shifted);
}

// A run's numbers, under scales that are known.
template <bool kWithErrors>
HWY_INLINE void run_codes(const std::uint32_t* words, int blocks, const Steps& steps, std::uint8_t* codes,
                          Errors& errors) {
  const DF d;
  const DU du;
  const hn::Rebind<std::uint8_t, DF> d8;
  const auto low_code = hn::Set(du, 7);
  Errors odd_errors{hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  for (int first = 0; first < kWordsOfBlock * blocks; first += kLanesF) {
    Divisor by;
    if constexpr (kWithErrors || !kHasFma) by.step = of_block(steps.step, first);
    if constexpr (kHasFma) {
      by.high = of_block(steps.high, first);
      by.low = of_block(steps.low, first);
    }
    const auto pairs = hn::LoadU(du, words + first);
    const auto magnitudes = hn::And(pairs, hn::Set(du, 0x7FFF7FFFu));
    const auto even = code_of<kWithErrors>(hn::BitCast(d, hn::ShiftLeft<16>(magnitudes)), by, errors);
    const auto odd =
        code_of<kWithErrors>(hn::BitCast(d, hn::And(magnitudes, hn::Set(du, 0xFFFF0000u))), by, odd_errors);
    auto byte = hn::Or(hn::And(low_code, even), hn::AndNot(low_code, hn::ShiftLeft<4>(odd)));
    byte = hn::Or(byte, hn::And(hn::ShiftRight<12>(pairs), hn::Set(du, 0x08)));
    byte = hn::Or(byte, hn::And(hn::ShiftRight<24>(pairs), hn::Set(du, 0x80)));
#if MEGAMOE_RNE_AVX3
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + first), _mm512_cvtepi32_epi8(byte.raw));
#else
    hn::StoreU(hn::TruncateTo(d8, byte), d8, codes + first);
#endif
  }
  if constexpr (kWithErrors) {
    errors.squares = hn::Add(errors.squares, odd_errors.squares);
    errors.error_squares = hn::Add(errors.error_squares, odd_errors.error_squares);
    errors.largest = hn::Max(errors.largest, odd_errors.largest);
  }
}

template <bool kWithErrors>
std::int64_t rne_bf16_of(const std::byte* data, std::int64_t blocks, const std::uint16_t* amax, float global_scale,
                         std::uint8_t* codes, std::uint8_t* sf, ErrorStats* stats) {
  const DF d;
  double squares = 0.0, error_squares = 0.0;
  auto largest = hn::Zero(d);
  std::int64_t done = 0;
  for (bool is_fast = true; is_fast && done + kBatch <= blocks;) {
    const auto whole = static_cast<int>(std::min<std::int64_t>(kRun, (blocks - done) / kBatch * kBatch));
    Steps steps;
    int run = 0;
    for (; run < whole; run += kBatch) {
      is_fast = block_scales(amax + done + run, global_scale, sf + done + run,
                             [&](int i, VF step) HWY_ATTR { set_steps(run + i, step, steps); });
      if (!is_fast) break;
    }
    Errors errors{hn::Zero(d), hn::Zero(d), largest};
    run_codes<kWithErrors>(reinterpret_cast<const std::uint32_t*>(data) + kWordsOfBlock * done, run, steps,
                           codes + kNvfp4BlockBytes * done, errors);
    if constexpr (kWithErrors) {
      squares += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, errors.squares)));
      error_squares += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, errors.error_squares)));
      largest = errors.largest;
    }
    done += run;
  }
  if constexpr (kWithErrors)
    stats->add(kNvfp4Block * done, squares, error_squares,
               static_cast<double>(hn::GetLane(hn::MaxOfLanes(d, largest))));
  return done;
}

// Quantises batches up to the first that it can not do, and returns how many blocks that were.
std::int64_t rne_bf16(const std::byte* data, std::int64_t blocks, const std::uint16_t* amax, float global_scale,
                      std::uint8_t* codes, std::uint8_t* sf, ErrorStats* stats) {
  return stats == nullptr ? rne_bf16_of<false>(data, blocks, amax, global_scale, codes, sf, stats)
                          : rne_bf16_of<true>(data, blocks, amax, global_scale, codes, sf, stats);
}

#endif

#endif

}  // namespace HWY_NAMESPACE
}  // namespace megamoe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace megamoe {
namespace {

// nvfp4_has_fast_form's range, for every scale code but 0.
bool steps_are_in_range(float global_scale) {
  return kE4m3MinSubnormal * global_scale >= 0x1p-60f && kNvfp4ScaleMax * global_scale <= 0x1p60f;
}

}  // namespace

HWY_EXPORT(rne_bf16);

std::int64_t rne_bf16_by_vectors(const std::byte* data, std::int64_t blocks, const std::uint16_t* block_amax,
                                 float global_scale, std::uint8_t* codes, std::uint8_t* sf,
                                 ErrorStats* error) noexcept {
  if (!steps_are_in_range(global_scale)) return 0;
  return HWY_DYNAMIC_DISPATCH(rne_bf16)(data, blocks, block_amax, global_scale, codes, sf, error);
}

}  // namespace megamoe
#endif  // HWY_ONCE

#else

namespace megamoe {

std::int64_t rne_bf16_by_vectors(const std::byte*, std::int64_t, const std::uint16_t*, float, std::uint8_t*,
                                 std::uint8_t*, ErrorStats*) noexcept {
  return 0;
}

}  // namespace megamoe
#endif
