// The first look at BF16 weights, in vectors: it waits for memory, so it finds the maximum of every block and the sum
// of squares on the way.
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

std::int64_t bf16_scan(const std::byte*, std::int64_t, std::uint16_t*, Bf16Scan*) { return 0; }

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

constexpr int kBatch = 16;        // blocks whose maxima are found together
constexpr int kRun = 4 * kBatch;  // blocks of one f32 sum of squares
constexpr int kWordsOfBlock = kNvfp4Block / 2;

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

// What the blocks' scales are made of, and the squares of all numbers: whole batches. Returns how many blocks that
// were.
std::int64_t bf16_scan(const std::byte* data, std::int64_t blocks, std::uint16_t* block_amax_bits, Bf16Scan* scan) {
  const hn::CappedTag<float, 16> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  constexpr int kLanes = HWY_LANES(float) < 16 ? HWY_LANES(float) : 16;
  const hn::FixedTag<std::int16_t, 8> d16;
  auto largest = hn::Zero(d16);
  std::int64_t done = 0;
  while (done + kBatch <= blocks) {
    const auto whole = static_cast<int>(std::min<std::int64_t>(kRun, (blocks - done) / kBatch * kBatch));
    auto even2 = hn::Zero(d), odd2 = hn::Zero(d);
    for (int b = 0; b < whole; b += kBatch) {
      const auto* words = reinterpret_cast<const std::uint32_t*>(data) + kWordsOfBlock * (done + b);
      std::uint16_t* amax = block_amax_bits + done + b;
      block_amax(reinterpret_cast<const std::int16_t*>(words), amax);
      const auto lower = hn::LoadU(d16, reinterpret_cast<const std::int16_t*>(amax));
      const auto upper = hn::LoadU(d16, reinterpret_cast<const std::int16_t*>(amax) + 8);
      largest = hn::Max(largest, hn::Max(lower, upper));
      for (int first = 0; first < kWordsOfBlock * kBatch; first += kLanes) {
        const auto pairs = hn::LoadU(du, words + first);
        const auto even = hn::BitCast(d, hn::ShiftLeft<16>(pairs));
        const auto odd = hn::BitCast(d, hn::And(pairs, hn::Set(du, 0xFFFF0000u)));
        even2 = hn::MulAdd(even, even, even2);
        odd2 = hn::MulAdd(odd, odd, odd2);
      }
    }
    scan->squares += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, hn::Add(even2, odd2))));
    done += whole;
  }
  const auto amax = static_cast<std::uint16_t>(hn::GetLane(hn::MaxOfLanes(d16, largest)));
  scan->amax_bits = std::max(scan->amax_bits, amax);
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
                                  Bf16Scan* scan) noexcept {
  return HWY_DYNAMIC_DISPATCH(bf16_scan)(data, blocks, block_amax, scan);
}

}  // namespace megamoe
#endif  // HWY_ONCE

#else

namespace megamoe {

std::int64_t bf16_amax_by_vectors(const std::byte*, std::int64_t, bool, std::uint16_t*) noexcept { return 0; }

std::int64_t bf16_scan_by_vectors(const std::byte*, std::int64_t, std::uint16_t*, Bf16Scan*) noexcept { return 0; }

}  // namespace megamoe
#endif
