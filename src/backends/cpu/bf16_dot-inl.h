// bf16 activations by vdpbf16ps, which multiplies pairs of bf16 and adds them to f32. Part of kernels-inl.h: used where
// a machine with AVX3_DL has AVX512-BF16 too (Zen 4, Sapphire Rapids).
//
// A weight, e2m1 times its block's scale, is exact in bf16. Few rows decode in registers, many once into 16 KiB of
// pairs that all of them use, while the products with the pairs before are computed; the products are the same, each
// lane's sum runs over the pairs in order, and so the bits are the same, too. BF16 weights stay with the f32 loop:
// theirs may be subnormal, which the instruction takes for zero.

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

HWY_INLINE __m512i broadcast_pair(const std::uint16_t* row, std::int64_t pair) {
  std::int32_t word;
  std::memcpy(&word, row + 2 * pair, sizeof(word));
  return _mm512_set1_epi32(word);
}

constexpr std::int64_t kPairBytes = 4 * kLanes;  // of a panel

// ---- Decoding -------------------------------------------------------------------------------------------------------

// A weight is 2^j or 1.5 * 2^j times half of its block's scale, or zero. So its bf16 bits are the scale's, UE5M3 moved
// into place, plus 128 j, plus, of the second kind, what 1.5 adds to the bits of this scale's fraction. One look-up by
// the packed code gives all that depends on it:
//   bit 15 the sign | bits 14-10 set | bits 9-7 j + 4 | bits 6-0 set where 1.5 is a factor; of a zero the sign alone
// The mask of a scale keeps the sign, bits 13-11, which with the 4 are the bias that UE5M3 lacks, j, and of bits 6-0
// what 1.5 adds. Then the scale is added. Below the sign no weight's bits reach the look-up's bits 14-10, so the
// unsigned minimum of both is the sum, but of a zero the look-up.
constexpr auto kTermsOfCode = [] {
  std::array<std::uint16_t, 32> terms{};
  for (unsigned i = 0; i < terms.size(); ++i) {
    constexpr std::array<unsigned, 8> kTerms = {0, 0x7E00, 0x7E80, 0x7EFF, 0x7F00, 0x7F7F, 0x7F80, 0x7FFF};
    terms[i] = static_cast<std::uint16_t>(i % 2 << 15 | kTerms[i % 16 / 2]);
  }
  return terms;
}();

// The mask of a scale, by the scale's lowest bits.
constexpr auto kMaskOfScale = [] {
  std::array<std::uint16_t, 32> masks{};
  for (unsigned i = 0; i < masks.size(); ++i) {
    const float scale = ue5m3_to_float(static_cast<std::uint8_t>(16 << 3 | i % 8));
    masks[i] = static_cast<std::uint16_t>(0xBB80u | (bf16_from_float(1.5f * scale) - bf16_from_float(scale)));
  }
  return masks;
}();

// Every weight of every scale is what it should be.
static_assert([] {
  for (unsigned scale = 0; scale < 256; ++scale)
    for (unsigned code = 0; code < 16; ++code) {
      const float magnitude = 0.5f * static_cast<float>(doubled_of_packed(static_cast<int>(code & 14)));
      const unsigned want = bf16_from_float(magnitude * ue5m3_to_float(static_cast<std::uint8_t>(scale))) | code << 15;
      const unsigned terms = kTermsOfCode[code];
      const unsigned sum = (terms & kMaskOfScale[scale % 32]) + (scale << 4);
      if (std::min(sum, terms) != (want & 0xFFFF)) return false;
    }
  return true;
}());

// A lane's scale in both of its halves: bytes 0, 2 of lane i are byte i of 16.
constexpr auto kSpreadScales = [] {
  std::array<std::uint8_t, 64> from{};
  for (unsigned i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i / 4);
  return from;
}();

// One block of 16 K of 16 lanes.
struct Bf16Decoder {
  // Four or five operations for 32 weights. On Zen 4, beside vdpbf16ps, the look-up and the shift have one port left,
  // the other three have two.
  template <int Nibble>
  HWY_INLINE __m512i weights(__m512i words) const {
    const __m512i codes = Nibble == 0 ? words : _mm512_srli_epi16(words, 4 * Nibble);
    const __m512i terms = _mm512_permutexvar_epi16(codes, _mm512_loadu_si512(kTermsOfCode.data()));
    return _mm512_min_epu16(_mm512_add_epi16(_mm512_and_si512(terms, mask), scale), terms);
  }

  HWY_INLINE Bf16Decoder(const std::uint8_t* scales) {
    const __m512i bytes = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
    const __m512i codes =
        _mm512_maskz_permutexvar_epi8(0x5555555555555555u, _mm512_loadu_si512(kSpreadScales.data()), bytes);
    mask = _mm512_permutexvar_epi16(codes, _mm512_loadu_si512(kMaskOfScale.data()));
    scale = _mm512_slli_epi16(codes, 4);
  }

  __m512i mask;
  __m512i scale;  // in bf16's place, without its bias
};

// A block of 16 K of a panel, both vectors of its lanes.
struct PackedBlock {
  HWY_INLINE PackedBlock(const std::uint8_t* panel, std::int64_t block)
      : codes(panel + block / 4 * kTileBytes + kTileScales + 256 * (block % 4)),
        front(panel + block / 4 * kTileBytes + kLanes * (block % 4)),
        back(panel + block / 4 * kTileBytes + kLanes * (block % 4) + 16) {}

  // Calls use(pair of the block, front weights, back weights) for four pairs, in order. Nibble n of the halves of a
  // lane's word is the elements {0, 2}, {4, 6}, {1, 3}, {5, 7}.
  template <class Use>
  HWY_INLINE void decode_half(int half, const Use& use) const {
    const __m512i a = _mm512_loadu_si512(codes + 128 * half);
    const __m512i b = _mm512_loadu_si512(codes + 128 * half + 64);
    use(4 * half, front.weights<0>(a), back.weights<0>(b));
    use(4 * half + 1, front.weights<2>(a), back.weights<2>(b));
    use(4 * half + 2, front.weights<1>(a), back.weights<1>(b));
    use(4 * half + 3, front.weights<3>(a), back.weights<3>(b));
  }

  template <class Use>
  HWY_INLINE void decode(const Use& use) const {
    decode_half(0, use);
    decode_half(1, use);
  }

  const std::uint8_t* codes;
  Bf16Decoder front, back;
};

// What a pass adds to: the sums of its first row, and how far those of the next one are. Zeros have one row.
struct SumsSoFar {
  const float* sums;
  std::int64_t stride;

  static SumsSoFar zeros() {
    alignas(64) static constexpr float kZeros[kLanes] = {};
    return {kZeros, 0};
  }
};

// The sums of rows and both vectors of a group. It has the rows' pointers, because a store of pairs might change what
// an ActivationRow says, as far as the compiler knows.
template <int Rows>
struct PairSums {
  __m512 total[Rows][2];
  const std::uint16_t* row[Rows];

  HWY_INLINE void of(const ActivationRow* activations) {
    for (int r = 0; r < Rows; ++r) row[r] = activations[r].bf16;
  }
  HWY_INLINE void clear() {
    for (int r = 0; r < Rows; ++r) total[r][0] = total[r][1] = _mm512_setzero_ps();
  }
  HWY_INLINE void load(const SumsSoFar& from) {
    unrolled<Rows>([&](int r) {
      total[r][0] = _mm512_loadu_ps(from.sums + r * from.stride);
      total[r][1] = _mm512_loadu_ps(from.sums + r * from.stride + 16);
    });
  }
  HWY_INLINE void store(float* out) const {
    unrolled<Rows>([&](int r) {
      _mm512_storeu_ps(out + r * kLanes, total[r][0]);
      _mm512_storeu_ps(out + r * kLanes + 16, total[r][1]);
    });
  }
  HWY_INLINE void add(__m512i front, __m512i back, std::int64_t pair) {
    for (int r = 0; r < Rows; ++r) {
      const __m512i a = broadcast_pair(row[r], pair);
      total[r][0] = dot_pair(total[r][0], front, a);
      total[r][1] = dot_pair(total[r][1], back, a);
    }
  }
};

constexpr std::int64_t kBlockPairs = 8;

// Rows that decode in registers as they go.
template <int Rows>
HWY_NOINLINE void bf16_direct(const std::uint8_t* panel, std::int64_t blocks, const ActivationRow* activations,
                              float* out) {
  PairSums<Rows> sums;
  sums.of(activations);
  sums.clear();
  for (std::int64_t block = 0; block < blocks; ++block)
    PackedBlock(panel, block).decode([&](int pair, __m512i front, __m512i back) {
      sums.add(front, back, kBlockPairs * block + pair);
    });
  sums.store(out);
}

// ---- Products with decoded pairs ------------------------------------------------------------------------------------

// Rows of a pass and both vectors of a group: at most 20 sums, 2 weights, 1 broadcast, and as many pointers as rows.
// The pointers of 12 rows do not fit the general registers: 18 cycles a row instead of 16. Two or three rows are too
// few sums to keep vdpbf16ps busy.
constexpr std::int64_t kMostPanelRows = 10;
constexpr std::int64_t kLeastPanelRows = 4;
constexpr std::int64_t kPieceBlocks = 16;  // of a panel: 16 KiB of pairs, half of the L1 cache

HWY_INLINE void decode_block(const std::uint8_t* panel, std::int64_t block, std::byte* pairs) {
  PackedBlock(panel, block).decode([&](int pair, __m512i front, __m512i back) {
    _mm512_store_si512(pairs + pair * kPairBytes, front);
    _mm512_store_si512(pairs + pair * kPairBytes + 64, back);
  });
}

// Products with `blocks` blocks of pairs, which are blocks `first` and following of the rows, added to `from`.
template <int Rows>
HWY_NOINLINE void add_pairs(const std::byte* pairs, std::int64_t first, std::int64_t blocks,
                            const ActivationRow* activations, const SumsSoFar& from, float* out) {
  PairSums<Rows> sums;
  sums.of(activations);
  sums.load(from);
  for (std::int64_t pair = 0; pair < kBlockPairs * blocks; ++pair, pairs += kPairBytes)
    sums.add(_mm512_load_si512(pairs), _mm512_load_si512(pairs + 64), kBlockPairs * first + pair);
  sums.store(out);
}

// The same, and each pair that was read is replaced: by as many blocks from block `next` of `panel` on. Products keep
// two of the four vector ports busy and decoding finds room on the others. A block one piece further is asked for; into
// the L2 cache alone it costs 1 % more.
template <int Rows>
HWY_NOINLINE void add_and_replace_pairs(std::byte* pairs, std::int64_t first, std::int64_t blocks,
                                        const ActivationRow* activations, const std::uint8_t* panel, std::int64_t next,
                                        const SumsSoFar& from, float* out) {
  PairSums<Rows> sums;
  sums.of(activations);
  sums.load(from);
  for (std::int64_t block = 0; block < blocks; ++block, pairs += kBlockPairs * kPairBytes) {
    const PackedBlock packed(panel, next + block);
    for (int line = 0; line < 5; ++line) __builtin_prefetch(packed.codes + kPieceBlocks / 4 * kTileBytes + 64 * line);
    packed.decode([&](int pair, __m512i front, __m512i back) {
      std::byte* at = pairs + pair * kPairBytes;
      sums.add(_mm512_load_si512(at), _mm512_load_si512(at + 64), kBlockPairs * (first + block) + pair);
      _mm512_store_si512(at, front);
      _mm512_store_si512(at + 64, back);
    });
  }
  sums.store(out);
}

using AddPairs = void (*)(const std::byte*, std::int64_t, std::int64_t, const ActivationRow*, const SumsSoFar&, float*);
using AddAndReplacePairs = void (*)(std::byte*, std::int64_t, std::int64_t, const ActivationRow*, const std::uint8_t*,
                                    std::int64_t, const SumsSoFar&, float*);

template <std::size_t... Rows>
constexpr std::array<AddPairs, sizeof...(Rows)> add_pairs_table(std::index_sequence<Rows...>) {
  return {add_pairs<static_cast<int>(Rows) + 1>...};
}
template <std::size_t... Rows>
constexpr std::array<AddAndReplacePairs, sizeof...(Rows)> add_and_replace_table(std::index_sequence<Rows...>) {
  return {add_and_replace_pairs<static_cast<int>(Rows) + 1>...};
}

// Blocks [begin, end) of a panel.
struct Piece {
  const std::uint8_t* panel;
  std::int64_t begin, end;
};

// Many, because decoding hides behind them, but 8 leave it more registers than 10. What is left is no small pass.
constexpr std::int64_t rows_of_last_pass(std::int64_t rows) {
  return rows <= kMostPanelRows ? rows : std::min<std::int64_t>(8, rows - kLeastPanelRows);
}

// Adds the products with a piece, whose pairs are in `pairs`, for all rows; the last of them leave the pairs of `next`.
void add_piece(std::byte* pairs, const Piece& piece, const Piece& next, const ActivationRow* activations,
               std::int64_t rows, float* out) {
  static constexpr auto kAdd = add_pairs_table(std::make_index_sequence<kMostPanelRows>());
  static constexpr auto kReplace = add_and_replace_table(std::make_index_sequence<kMostPanelRows>());
  const std::int64_t blocks = piece.end - piece.begin;
  const std::int64_t last_rows = rows_of_last_pass(rows);
  const auto from = [&] { return piece.begin == 0 ? SumsSoFar::zeros() : SumsSoFar{out, kLanes}; };
  rows -= last_rows;
  for (std::int64_t passes = ceil_div(rows, kMostPanelRows); passes > 0; --passes) {
    const std::int64_t now = ceil_div(rows, passes);
    kAdd[static_cast<std::size_t>(now - 1)](pairs, piece.begin, blocks, activations, from(), out);
    rows -= now;
    activations += now;
    out += now * kLanes;
  }
  const std::int64_t replaced = std::min(blocks, next.end - next.begin);
  const auto last = static_cast<std::size_t>(last_rows - 1);
  if (replaced > 0) kReplace[last](pairs, piece.begin, replaced, activations, next.panel, next.begin, from(), out);
  if (replaced < blocks)
    kAdd[last](pairs + replaced * kBlockPairs * kPairBytes, piece.begin + replaced, blocks - replaced, activations,
               replaced == 0 ? from() : SumsSoFar{out, kLanes}, out);
  for (std::int64_t block = next.begin + replaced; block < next.end; ++block)
    decode_block(next.panel, block, pairs + (block - next.begin) * kBlockPairs * kPairBytes);
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

void bf16_products_nvfp4_rows(const std::uint8_t* panel, std::int64_t k, std::int64_t panels,
                              const ActivationRow* activations, std::int64_t rows, float* out) {
  static_assert(kMostDirectRows == 4);
  constexpr auto kDirect = std::array{bf16_direct<1>, bf16_direct<2>, bf16_direct<3>, bf16_direct<4>};
  const std::int64_t blocks = k / 16;
  const std::int64_t bytes = tiles_of(k) * kTileBytes;
  if (rows <= kMostDirectRows) {
    for (std::int64_t p = 0; p < panels; ++p)
      kDirect[static_cast<std::size_t>(rows - 1)](panel + p * bytes, blocks, activations, out + p * rows * kLanes);
    return;
  }
  alignas(64) std::byte pairs[kPieceBlocks * kBlockPairs * kPairBytes];
  Piece piece{panel, 0, std::min(blocks, kPieceBlocks)};
  for (std::int64_t block = 0; block < piece.end; ++block)
    decode_block(panel, block, pairs + block * kBlockPairs * kPairBytes);
  for (std::int64_t p = 0; p < panels;) {
    const bool ends = piece.end == blocks;
    Piece next{piece.panel, piece.end, std::min(blocks, piece.end + kPieceBlocks)};
    if (ends) next = {piece.panel + bytes, 0, p + 1 < panels ? std::min(blocks, kPieceBlocks) : 0};
    add_piece(pairs, piece, next, activations, rows, out + p * rows * kLanes);
    piece = next;
    if (ends) ++p;
  }
}

void bf16_products_nvfp4(const std::byte* panel, std::int64_t k, std::int64_t panels, const ActivationRow* activations,
                         std::int64_t rows, float* out) {
  const auto normal = [&](const std::byte* from, std::int64_t count, const ActivationRow* some, std::int64_t n,
                          float* to) {
    bf16_products_nvfp4_rows(reinterpret_cast<const std::uint8_t*>(from), k, count, some, n, to);
  };
  if (std::none_of(activations, activations + rows, [](const ActivationRow& row) { return row.is_tiny; }))
    return normal(panel, panels, activations, rows, out);
  for (std::int64_t p = 0; p < panels; ++p, panel += tiles_of(k) * kTileBytes, out += rows * kLanes)
    split_tiny_rows(
        activations, rows, out,
        [&](const ActivationRow* some, std::int64_t count, float* to) { normal(panel, 1, some, count, to); },
        [&](const ActivationRow* some, std::int64_t count, float* to) {
          wide_dot<Nvfp4Wide, Bf16Values>(panel, k, 1, some, count, to);
        });
}

#endif  // HWY_AVX3_DL

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
