// The first look at BF16 weights, in vectors: the maximum of all and of every block.
#include "quant/rne_bf16_vectors.h"

#if MEGAMOE_HAVE_CPU_BACKEND  // then the build has Highway

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "quant/bf16_scan_vectors.cc"
#include "hwy/foreach_target.h"  // compiles what follows once for each instruction set
//
#include <algorithm>

#include "hwy/highway.h"
#include "megamoe/formats/nvfp4.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE

std::int64_t bf16_amax(const std::byte*, std::int64_t, bool, std::uint16_t*) { return 0; }

std::int64_t bf16_scan(const std::byte*, std::int64_t, std::uint16_t*, std::uint16_t*) { return 0; }

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

#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86

constexpr int kBatch = 32;  // blocks whose maxima are found together

HWY_INLINE __m512i max_of_halves(__m512i a, __m512i b) {
  return _mm512_max_epi16(_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
}

// Lane i: the largest magnitude of block i. Highest bits of BF16 order like the numbers. Two vectors become one, five
// times: three operations each, 63 in all for the 16 vectors.
HWY_INLINE void block_amax(const std::int16_t* x, std::uint16_t* amax) {
  const __m512i magnitude = _mm512_set1_epi16(0x7FFF);
  const auto load = [&](int i) HWY_ATTR { return _mm512_and_si512(_mm512_loadu_si512(x + 32 * i), magnitude); };
  // Four blocks, eight numbers of each left.
  const auto four = [&](int i) HWY_ATTR {
    const __m512i a = load(2 * i), b = load(2 * i + 1);
    return _mm512_max_epi16(_mm512_shuffle_i64x2(a, b, 0x88), _mm512_shuffle_i64x2(a, b, 0xDD));
  };
  // Memory is read upwards, in the order of these lines and not of arguments: the processor's own requests fall behind
  // where a kilobyte is read in another order.
  const auto eight = [&](int i) HWY_ATTR {
    const __m512i first = four(i);
    return max_of_halves(first, four(i + 1));
  };
  const auto sixteen = [&](int i) HWY_ATTR {
    const __m512i first = eight(i);
    return max_of_halves(first, eight(i + 2));
  };
  const __m512i low = sixteen(0);
  const __m512i high = sixteen(4);
  const __m512i maxima = max_of_halves(low, high);  // lane 8 i + j: of block 4 j' + i, j' with the bits of j reversed
  const __m512i order = _mm512_set_epi16(31, 23, 15, 7, 27, 19, 11, 3, 29, 21, 13, 5, 25, 17, 9, 1, 30, 22, 14, 6, 26,
                                         18, 10, 2, 28, 20, 12, 4, 24, 16, 8, 0);
  _mm512_storeu_si512(amax, _mm512_permutexvar_epi16(order, maxima));
}

#else

constexpr int kBatch = 16;  // blocks whose maxima are found together

// Lane i: the largest magnitude of block i. Highest bits of BF16 order like the numbers.
HWY_INLINE void block_amax(const std::int16_t* x, std::uint16_t* amax) {
  const hn::FixedTag<std::int16_t, 8> d;
  const auto magnitude = hn::Set(d, 0x7FFF);
  const auto block = [&](int b) HWY_ATTR {
    return hn::Max(hn::And(hn::LoadU(d, x + 16 * b), magnitude), hn::And(hn::LoadU(d, x + 16 * b + 8), magnitude));
  };
  const auto merge = [&](auto a, auto b)
                         HWY_ATTR { return hn::Max(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)); };
  // Each merge interleaves, so eight blocks in the order of reversed bits come out in their own.
  for (int half = 0; half < 16; half += 8) {
    const auto even = merge(merge(block(half), block(half + 4)), merge(block(half + 2), block(half + 6)));
    const auto odd = merge(merge(block(half + 1), block(half + 5)), merge(block(half + 3), block(half + 7)));
    hn::StoreU(merge(even, odd), d, reinterpret_cast<std::int16_t*>(amax) + half);
  }
}

#endif

// Whole batches. Returns how many blocks that were.
std::int64_t bf16_scan(const std::byte* data, std::int64_t blocks, std::uint16_t* block_amax_bits,
                       std::uint16_t* amax) {
  const hn::CappedTag<std::int16_t, kBatch> d;
  constexpr int kLanes = HWY_LANES(std::int16_t) < kBatch ? HWY_LANES(std::int16_t) : kBatch;
  auto largest = hn::Zero(d);
  std::int64_t done = 0;
  for (; done + kBatch <= blocks; done += kBatch) {
    block_amax(reinterpret_cast<const std::int16_t*>(data) + kNvfp4Block * done, block_amax_bits + done);
    for (int i = 0; i < kBatch; i += kLanes)
      largest = hn::Max(largest, hn::LoadU(d, reinterpret_cast<const std::int16_t*>(block_amax_bits) + done + i));
  }
  alignas(64) std::int16_t lanes[kLanes];
  hn::Store(largest, d, lanes);
  for (const std::int16_t lane : lanes)
    if (lane > *amax) *amax = static_cast<std::uint16_t>(lane);
  return done;
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace megamoe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace megamoe {

HWY_EXPORT(bf16_amax);
HWY_EXPORT(bf16_scan);

std::int64_t bf16_amax_by_vectors(const std::byte* data, std::int64_t count, bool ignore_nan,
                                  std::uint16_t* amax) noexcept {
  return HWY_DYNAMIC_DISPATCH(bf16_amax)(data, count, ignore_nan, amax);
}

std::int64_t bf16_scan_by_vectors(const std::byte* data, std::int64_t blocks, std::uint16_t* block_amax,
                                  std::uint16_t* amax) noexcept {
  return HWY_DYNAMIC_DISPATCH(bf16_scan)(data, blocks, block_amax, amax);
}

}  // namespace megamoe
#endif  // HWY_ONCE

#else

namespace megamoe {

std::int64_t bf16_amax_by_vectors(const std::byte*, std::int64_t, bool, std::uint16_t*) noexcept { return 0; }

std::int64_t bf16_scan_by_vectors(const std::byte*, std::int64_t, std::uint16_t*, std::uint16_t*) noexcept { return 0; }

}  // namespace megamoe
#endif
