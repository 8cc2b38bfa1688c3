// Codes and scales of NVFP4 rows into packed tiles. Part of kernels-inl.h, for each instruction set.

#if defined(MEGAMOE_CPU_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_PACK_INL_H_
#undef MEGAMOE_CPU_PACK_INL_H_
#else
#define MEGAMOE_CPU_PACK_INL_H_
#endif

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/packed_layout.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// packed_word (packed_layout.h) of four words.
template <class D, class V>
HWY_INLINE V packed_words(D d, V codes) {
  const auto spread = [d](V half) {
    half = hn::And(hn::Or(half, hn::ShiftLeft<8>(half)), hn::Set(d, 0x00FF00FFu));
    return hn::And(hn::Or(half, hn::ShiftLeft<4>(half)), hn::Set(d, 0x0F0F0F0Fu));
  };
  const V low = spread(hn::And(codes, hn::Set(d, 0xFFFFu)));
  const V high = spread(hn::ShiftRight<16>(codes));
  const V word = hn::Or(low, hn::ShiftLeft<4>(high));
  return hn::Or(hn::ShiftLeft<1>(hn::And(word, hn::Set(d, 0x77777777u))),
                hn::And(hn::ShiftRight<3>(word), hn::Set(d, 0x11111111u)));
}

#if HWY_TARGET <= HWY_AVX3

// packed_word of sixteen words. With VBMI, code i of a word is picked as the low and code i + 4 as the high half of
// byte i: 6 operations instead of 13.
HWY_INLINE __m512i packed_words_512(__m512i codes) {
#if HWY_TARGET <= HWY_AVX3_DL
  const __m512i low_at = _mm512_set1_epi64(0x2C2824200C080400);   // bits 4 i, and 32 + 4 i of the upper word
  const __m512i high_at = _mm512_set1_epi64(0x3834302C1814100C);  // 12 further: code i + 3 below code i + 4
  const __m512i low = _mm512_multishift_epi64_epi8(low_at, codes);
  const __m512i high = _mm512_multishift_epi64_epi8(high_at, codes);
  const __m512i word = _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x0F), low, high, 0xCA);  // low where the mask is set
  const __m512i magnitude = _mm512_slli_epi16(word, 1), sign = _mm512_srli_epi16(word, 3);
  return _mm512_ternarylogic_epi32(_mm512_set1_epi8(0x11), sign, _mm512_and_si512(magnitude, _mm512_set1_epi8(~0x11)),
                                   0xEA);  // (mask & sign) | magnitude
#else
  const hn::FixedTag<std::uint32_t, 16> d;
  return packed_words(d, hn::Vec<decltype(d)>{codes}).raw;
#endif
}

// Sixteen rows, and four words of each at a time: block b of a vector is row r + 4 b, so that a transposition within
// the blocks makes whole cache lines of sixteen lanes. Nothing reads them soon: where `out` is the start of a line,
// they go past the caches, and memory need not be read for them first. The caller flushes them.
template <bool kStream>
void pack_words_16(const std::byte* codes, std::int64_t row_bytes, std::int64_t tiles, std::byte* out) {
  for (std::int64_t half = 0; half < 2 * tiles; ++half) {
    const auto load = [&](std::int64_t r) HWY_ATTR {
      const auto at = [&](std::int64_t row) HWY_ATTR {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + row * row_bytes + 16 * half));
      };
      __m512i rows = _mm512_castsi128_si512(at(r));
      rows = _mm512_inserti32x4(rows, at(r + 4), 1);
      rows = _mm512_inserti32x4(rows, at(r + 8), 2);
      return packed_words_512(_mm512_inserti32x4(rows, at(r + 12), 3));
    };
    const __m512i a = load(0), b = load(1), c = load(2), e = load(3);
    const __m512i ab_low = _mm512_unpacklo_epi32(a, b), ce_low = _mm512_unpacklo_epi32(c, e);
    const __m512i ab_high = _mm512_unpackhi_epi32(a, b), ce_high = _mm512_unpackhi_epi32(c, e);
    std::byte* to = out + half / 2 * kTileBytes + half % 2 * 4 * 4 * kLanes;
    const auto store = [&](int word, __m512i lanes) HWY_ATTR {
      auto* at = reinterpret_cast<__m512i*>(to + word * 4 * kLanes);
      kStream ? _mm512_stream_si512(at, lanes) : _mm512_storeu_si512(at, lanes);
    };
    store(0, _mm512_unpacklo_epi64(ab_low, ce_low));
    store(1, _mm512_unpackhi_epi64(ab_low, ce_low));
    store(2, _mm512_unpacklo_epi64(ab_high, ce_high));
    store(3, _mm512_unpackhi_epi64(ab_high, ce_high));
  }
}

#endif

// Four rows and four words at a time: a transposition of 128-bit vectors, which every target has.
void pack_words(const std::byte* codes, std::int64_t row_bytes, std::int64_t rows, std::int64_t tiles, std::byte* out) {
#if HWY_TARGET <= HWY_AVX3
  const bool stream = reinterpret_cast<std::uintptr_t>(out) % 64 == 0;
  for (; rows >= 16; rows -= 16, codes += 16 * row_bytes, out += 16 * 4)
    stream ? pack_words_16<true>(codes, row_bytes, tiles, out) : pack_words_16<false>(codes, row_bytes, tiles, out);
#endif
  const hn::FixedTag<std::uint32_t, 4> d;
  const hn::FixedTag<std::uint64_t, 2> d64;
  for (std::int64_t row = 0; row < rows; row += 4, codes += 4 * row_bytes, out += 16) {
    for (std::int64_t half = 0; half < 2 * tiles; ++half) {
      const auto load = [&](std::int64_t r) {
        const auto* at = reinterpret_cast<const std::uint8_t*>(codes + r * row_bytes + 16 * half);
        return packed_words(d, hn::BitCast(d, hn::LoadU(hn::FixedTag<std::uint8_t, 16>(), at)));
      };
      const auto a = load(0), b = load(1), c = load(2), e = load(3);
      const auto ab_low = hn::BitCast(d64, hn::InterleaveLower(d, a, b));
      const auto ce_low = hn::BitCast(d64, hn::InterleaveLower(d, c, e));
      const auto ab_high = hn::BitCast(d64, hn::InterleaveUpper(d, a, b));
      const auto ce_high = hn::BitCast(d64, hn::InterleaveUpper(d, c, e));
      std::byte* to = out + half / 2 * kTileBytes + half % 2 * 4 * 4 * kLanes;
      const auto store = [&](int word, auto lanes) {
        hn::StoreU(hn::BitCast(hn::FixedTag<std::uint8_t, 16>(), lanes), hn::FixedTag<std::uint8_t, 16>(),
                   reinterpret_cast<std::uint8_t*>(to + word * 4 * kLanes));
      };
      store(0, hn::InterleaveLower(d64, ab_low, ce_low));
      store(1, hn::InterleaveUpper(d64, ab_low, ce_low));
      store(2, hn::InterleaveLower(d64, ab_high, ce_high));
      store(3, hn::InterleaveUpper(d64, ab_high, ce_high));
    }
  }
}

// Four rows and four tiles, 16 blocks, at a time: a transposition of bytes. A normal scale changes its bias only.
bool pack_scales(const std::byte* sf, std::int64_t row_bytes, std::int64_t rows, std::int64_t tiles, std::byte* out) {
  const hn::FixedTag<std::uint8_t, 16> d8;
  const hn::FixedTag<std::uint16_t, 8> d16;
  const hn::FixedTag<std::int8_t, 16> di8;
  constexpr int kBlocks = 4;  // of a tile
  auto strange = hn::Zero(di8);
  for (std::int64_t row = 0; row < rows; row += 4, sf += 4 * row_bytes, out += 4)
    for (std::int64_t tile = 0; tile < tiles; tile += 4) {
      const auto load = [&](std::int64_t r) {
        const auto codes = hn::LoadU(d8, reinterpret_cast<const std::uint8_t*>(sf + r * row_bytes + kBlocks * tile));
        // Signed: what has the top bit is negative, and not above 7.
        const auto as_signed = hn::BitCast(di8, codes);
        const auto normal = hn::And(hn::Gt(as_signed, hn::Set(di8, 7)), hn::Lt(as_signed, hn::Set(di8, 0x7F)));
        strange = hn::Or(strange, hn::VecFromMask(di8, hn::Not(normal)));
        return hn::Add(codes, hn::Set(d8, (kUe5m3Bias - 7) << 3));
      };
      const auto a = load(0), b = load(1), c = load(2), e = load(3);
      const auto ab_low = hn::BitCast(d16, hn::InterleaveLower(d8, a, b));
      const auto ab_high = hn::BitCast(d16, hn::InterleaveUpper(d8, a, b));
      const auto ce_low = hn::BitCast(d16, hn::InterleaveLower(d8, c, e));
      const auto ce_high = hn::BitCast(d16, hn::InterleaveUpper(d8, c, e));
      alignas(16) std::uint16_t lanes[4][8];  // of each tile: blocks of 4 bytes
      hn::Store(hn::InterleaveLower(d16, ab_low, ce_low), d16, lanes[0]);
      hn::Store(hn::InterleaveUpper(d16, ab_low, ce_low), d16, lanes[1]);
      hn::Store(hn::InterleaveLower(d16, ab_high, ce_high), d16, lanes[2]);
      hn::Store(hn::InterleaveUpper(d16, ab_high, ce_high), d16, lanes[3]);
      for (int t = 0; t < 4; ++t)
        for (int block = 0; block < kBlocks; ++block)
          std::memcpy(out + (tile + t) * kTileBytes + block * kLanes, lanes[t] + 2 * block, 4);
    }
  return hn::AllFalse(di8, hn::MaskFromVec(strange));
}

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
