// bf16 activations by vdpbf16ps, which multiplies pairs of bf16 and adds them to f32. Part of kernels-inl.h: used where
// a machine with AVX3_DL has AVX512-BF16 too (Zen 4, Sapphire Rapids).
//
// A weight, e2m1 times its block's scale, is exact in bf16. Few rows decode in registers, many once into 16 KiB of
// pairs that all of them use; the products are the same, each lane's sum runs over the pairs in order, and so the bits
// are the same, too. BF16 weights stay with the f32 loop: theirs may be subnormal, which the instruction takes for
// zero.

#if defined(MEGAMOE_CPU_BF16_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_BF16_DOT_INL_H_
#undef MEGAMOE_CPU_BF16_DOT_INL_H_
#else
#define MEGAMOE_CPU_BF16_DOT_INL_H_
#endif

#include <algorithm>
#include <array>
#include <utility>

#include "backends/cpu/wide_dot-inl.h"
#include "megamoe/formats/bf16.h"

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL && !defined(__clang__)
#pragma GCC target("avx512bf16")
#endif
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX3_DL

HWY_INLINE __m512 dot_pair(__m512 sum, __m512i weights, __m512i activations) {
#if defined(__clang__)
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(activations));
  return sum;
#else  // the compiler keeps the sums of what it knows in place: with the assembler it copied each one
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(weights), reinterpret_cast<__m512bh>(activations));
#endif
}

HWY_INLINE __m512i broadcast_pair(const ActivationRow& row, std::int64_t pair) {
  std::int32_t word;
  std::memcpy(&word, row.bf16 + 2 * pair, sizeof(word));
  return _mm512_set1_epi32(word);
}

constexpr std::int64_t kPairBytes = 4 * kLanes;  // of a panel

// ---- Decoding -------------------------------------------------------------------------------------------------------

// bf16 bits of e2m1 magnitude m times the largest scale with mantissa f, at index 8 f + m. Smaller scales are the same
// bits less a multiple of the exponent's unit; subtraction saturates, so that zero stays zero.
constexpr int kLargestScaleExponent = 8 + kUe5m3Bias;
constexpr auto kProducts = [] {
  std::array<std::uint16_t, 64> bits{};
  for (unsigned fraction = 0; fraction < 8; ++fraction)
    for (unsigned magnitude = 0; magnitude < 8; ++magnitude) {
      const float scale =
          ue5m3_to_float(static_cast<std::uint8_t>(static_cast<unsigned>(kLargestScaleExponent) << 3 | fraction));
      bits[8 * fraction + magnitude] =
          bf16_from_float(0.5f * static_cast<float>(doubled_of_packed(static_cast<int>(2 * magnitude))) * scale);
    }
  return bits;
}();

// One block of 16 K of 16 lanes: vectors of pairs, in the order of the pairs.
struct Bf16Decoder {
  // Six operations for 32 weights. A word's four nibbles belong to four K; a rotation brings the magnitude to the low
  // end, where it is an index, and the sign to the top, where bf16 has it.
  template <int Nibble>
  HWY_INLINE __m512i weights(__m512i words) const {
    const __m512i turned = _mm512_shrdi_epi16(words, words, 4 * Nibble + 1);
    const __m512i index = _mm512_ternarylogic_epi32(turned, _mm512_set1_epi16(7), fraction, 0xEA);  // (a & b) | c
    const __m512i largest = _mm512_permutex2var_epi16(_mm512_loadu_si512(kProducts.data()), index,
                                                      _mm512_loadu_si512(kProducts.data() + 32));
    const __m512i magnitude = _mm512_subs_epu16(largest, down);
    return _mm512_ternarylogic_epi32(turned, _mm512_set1_epi16(static_cast<short>(0x8000)), magnitude, 0xEA);
  }

  HWY_INLINE Bf16Decoder(const std::uint8_t* scales) {
    // Each lane's scale in both of its halves.
    const __m512i lanes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
    const __m512i codes = _mm512_or_si512(lanes, _mm512_slli_epi32(lanes, 16));
    fraction = _mm512_slli_epi16(_mm512_and_si512(codes, _mm512_set1_epi16(7)), 3);
    const __m512i exponent = _mm512_slli_epi16(_mm512_and_si512(codes, _mm512_set1_epi16(0xF8)), 4);
    down = _mm512_sub_epi16(_mm512_set1_epi16(kLargestScaleExponent << 7), exponent);
  }

  __m512i fraction;  // of the scale, times 8
  __m512i down;      // what its exponent lacks
};

// Calls use(pair of the half, weights) for the four pairs of half a block, in order. Nibble n of the halves of a lane's
// word is the elements {0, 2}, {4, 6}, {1, 3}, {5, 7}.
template <class Use>
HWY_INLINE void decode_half(const Bf16Decoder& decoder, __m512i words, const Use& use) {
  use(0, decoder.weights<0>(words));
  use(1, decoder.weights<2>(words));
  use(2, decoder.weights<1>(words));
  use(3, decoder.weights<3>(words));
}

// Rows that decode in registers as they go.
template <int Rows>
HWY_NOINLINE void bf16_direct(const std::uint8_t* panel, std::int64_t blocks, const ActivationRow* activations,
                              float* out) {
  __m512 total[Rows][2];
  for (int r = 0; r < Rows; ++r) total[r][0] = total[r][1] = _mm512_setzero_ps();
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::uint8_t* tile = panel + block / 4 * kTileBytes;
    const std::uint8_t* scales = tile + kLanes * (block % 4);
    const std::uint8_t* codes = tile + kTileScales + 256 * (block % 4);
    const Bf16Decoder front(scales);
    const Bf16Decoder back(scales + 16);
    for (int half = 0; half < 2; ++half) {
      __m512i weights[4];
      decode_half(front, _mm512_loadu_si512(codes + 128 * half), [&](int pair, __m512i w) { weights[pair] = w; });
      decode_half(back, _mm512_loadu_si512(codes + 128 * half + 64), [&](int pair, __m512i w) {
        for (int r = 0; r < Rows; ++r) {
          const __m512i a = broadcast_pair(activations[r], 8 * block + 4 * half + pair);
          total[r][0] = dot_pair(total[r][0], weights[pair], a);
          total[r][1] = dot_pair(total[r][1], w, a);
        }
      });
    }
  }
  unrolled<Rows>([&](int r) {
    _mm512_storeu_ps(out + r * kLanes, total[r][0]);
    _mm512_storeu_ps(out + r * kLanes + 16, total[r][1]);
  });
}

// Blocks [begin, end) of a panel as pairs.
void decode_panel(const std::uint8_t* panel, std::int64_t begin, std::int64_t end, std::byte* pairs) {
  for (std::int64_t block = begin; block < end; ++block) {
    const std::uint8_t* tile = panel + block / 4 * kTileBytes;
    const std::uint8_t* codes = tile + kTileScales + 256 * (block % 4);
    for (int vector = 0; vector < 2; ++vector) {
      const Bf16Decoder decoder(tile + kLanes * (block % 4) + 16 * vector);
      for (int half = 0; half < 2; ++half) {
        std::byte* to = pairs + (8 * (block - begin) + 4 * half) * kPairBytes + 64 * vector;
        decode_half(decoder, _mm512_loadu_si512(codes + 128 * half + 64 * vector),
                    [&](int pair, __m512i w) { _mm512_storeu_si512(to + pair * kPairBytes, w); });
      }
    }
  }
}

// ---- Products with decoded pairs ------------------------------------------------------------------------------------

// 12 rows and both vectors of a group: 24 sums, 2 weights, 1 broadcast.
constexpr std::int64_t kMostPanelRows = 12;
constexpr std::int64_t kBlockK = 256;  // of a panel: 16 KiB of pairs, half of the L1 cache

// Memory that is asked for meanwhile, a line a pair: the packed block that is decoded next. A step of 0: none.
struct AheadOfPairs {
  const std::uint8_t* next;
  std::int64_t step;
};

// Adds `count` pairs, the first of which is pair `first` of the rows, to the sums in `out`.
template <int Rows>
HWY_NOINLINE void add_pairs_of(const std::byte* pairs, std::int64_t first, std::int64_t count,
                               const ActivationRow* activations, AheadOfPairs ahead, float* out) {
  __m512 total[Rows][2];
  unrolled<Rows>([&](int r) {
    total[r][0] = _mm512_loadu_ps(out + r * kLanes);
    total[r][1] = _mm512_loadu_ps(out + r * kLanes + 16);
  });
  for (std::int64_t pair = 0; pair < count; ++pair, pairs += kPairBytes) {
    const __m512i front = _mm512_loadu_si512(pairs);
    const __m512i back = _mm512_loadu_si512(pairs + 64);
    __builtin_prefetch(ahead.next, 0, 2);
    ahead.next += ahead.step;
    for (int r = 0; r < Rows; ++r) {
      const __m512i a = broadcast_pair(activations[r], first + pair);
      total[r][0] = dot_pair(total[r][0], front, a);
      total[r][1] = dot_pair(total[r][1], back, a);
    }
  }
  unrolled<Rows>([&](int r) {
    _mm512_storeu_ps(out + r * kLanes, total[r][0]);
    _mm512_storeu_ps(out + r * kLanes + 16, total[r][1]);
  });
}

using AddPairs = void (*)(const std::byte*, std::int64_t, std::int64_t, const ActivationRow*, AheadOfPairs, float*);

template <std::size_t... Rows>
constexpr std::array<AddPairs, sizeof...(Rows)> add_pairs_table(std::index_sequence<Rows...>) {
  return {add_pairs_of<static_cast<int>(Rows) + 1>...};
}

void add_pairs_of_rows(const std::byte* pairs, std::int64_t first, std::int64_t count, const ActivationRow* activations,
                       std::int64_t rows, AheadOfPairs ahead, float* out) {
  static constexpr auto kTable = add_pairs_table(std::make_index_sequence<kMostPanelRows>());
  for (std::int64_t passes = ceil_div(rows, kMostPanelRows); passes > 0; --passes) {
    const std::int64_t now = ceil_div(rows, passes);
    kTable[static_cast<std::size_t>(now - 1)](pairs, first, count, activations, ahead, out);
    ahead.step = 0;
    rows -= now;
    activations += now;
    out += now * kLanes;
  }
}

// The instruction takes subnormal operands and results for zero. A row without values below 2^-90 (but zero) meets
// none: its products are multiples of 2^-107, and so is every sum that is not rounded. Other rows take the f32 loop.
template <class Normal, class Tiny>
HWY_INLINE void split_tiny_rows(const ActivationRow* activations, std::int64_t rows, float* out, const Normal& normal,
                                const Tiny& tiny) {
  for (std::int64_t r = 0; r < rows;) {
    std::int64_t end = r + 1;
    while (end < rows && activations[end].is_tiny == activations[r].is_tiny) ++end;
    if (activations[r].is_tiny)
      tiny(activations + r, end - r, out + r * kLanes);
    else
      normal(activations + r, end - r, out + r * kLanes);
    r = end;
  }
}

constexpr std::int64_t kMostDirectRows = 4;  // above it, decoding once and storing is faster than decoding per pass

void bf16_products_nvfp4_rows(const std::uint8_t* panel, std::int64_t k, const ActivationRow* activations,
                              std::int64_t rows, float* out) {
  if (rows == 1) return bf16_direct<1>(panel, k / 16, activations, out);
  if (rows == 2) return bf16_direct<2>(panel, k / 16, activations, out);
  if (rows == 3) return bf16_direct<3>(panel, k / 16, activations, out);
  if (rows == 4) return bf16_direct<4>(panel, k / 16, activations, out);
  static_assert(kMostDirectRows == 4);
  alignas(64) std::byte pairs[kBlockK / 2 * kPairBytes];
  std::fill(out, out + rows * kLanes, 0.0f);
  for (std::int64_t begin = 0; begin < k; begin += kBlockK) {
    const std::int64_t end = std::min(k, begin + kBlockK);
    decode_panel(panel, begin / 16, end / 16, pairs);
    add_pairs_of_rows(pairs, begin / 2, (end - begin) / 2, activations, rows, {panel + end / kTileK * kTileBytes, 64},
                      out);
  }
}

void bf16_products_nvfp4(const std::byte* panel, std::int64_t k, const ActivationRow* activations, std::int64_t rows,
                         float* out) {
  split_tiny_rows(
      activations, rows, out,
      [&](const ActivationRow* some, std::int64_t count, float* to) {
        bf16_products_nvfp4_rows(reinterpret_cast<const std::uint8_t*>(panel), k, some, count, to);
      },
      [&](const ActivationRow* some, std::int64_t count, float* to) {
        wide_dot<Nvfp4Wide, Bf16Values>(panel, k, some, count, to);
      });
}

#endif  // HWY_AVX3_DL

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
