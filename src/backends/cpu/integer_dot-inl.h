// NVFP4 weights times int8 or nvfp4 activations: exact integer sums over each block of 16, scaled in f32. Part of
// kernels-inl.h, for each instruction set.

#if defined(MEGAMOE_CPU_INTEGER_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_INTEGER_DOT_INL_H_
#undef MEGAMOE_CPU_INTEGER_DOT_INL_H_
#else
#define MEGAMOE_CPU_INTEGER_DOT_INL_H_
#endif

#include <algorithm>
#include <array>
#include <utility>

#include "backends/cpu/decode-inl.h"

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL && !defined(__clang__)
#pragma GCC target("avx512vnni")  // Highway 1.0.3 enables AVX-VNNI for this target where it means this
#endif
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

// ---- The integer sum of a block ------------------------------------------------------------------------------------

#if HWY_TARGET == HWY_AVX3_DL

// sum[lane] += the four products of the lane's weight bytes (0..24) with the four activations.
HWY_INLINE VI dot_quad(VI sum, VB weights, VI activations) {
#if defined(__clang__)
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(weights.raw), "v"(activations.raw));
  return sum;
#else  // the compiler schedules what it knows: 6 % faster
  return VI{_mm512_dpbusd_epi32(sum.raw, weights.raw, activations.raw)};
#endif
}

HWY_INLINE VI dot_block(const VB (&quads)[4], const VI (&activations)[4], VI offset) {
  VI sum = offset;
  for (int i = 0; i < 4; ++i) sum = dot_quad(sum, quads[i], activations[i]);
  return sum;
}

#elif HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3

#if HWY_TARGET == HWY_AVX3
HWY_INLINE __m512i pair_products(__m512i w, __m512i a) { return _mm512_maddubs_epi16(w, a); }
HWY_INLINE __m512i add_pairs(__m512i a, __m512i b) { return _mm512_add_epi16(a, b); }
HWY_INLINE __m512i widen_pairs(__m512i sums) { return _mm512_madd_epi16(sums, _mm512_set1_epi16(1)); }
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE __m256i pair_products(__m256i w, __m256i a) { return _mm256_maddubs_epi16(w, a); }
HWY_INLINE __m256i add_pairs(__m256i a, __m256i b) { return _mm256_add_epi16(a, b); }
HWY_INLINE __m256i widen_pairs(__m256i sums) { return _mm256_madd_epi16(sums, _mm256_set1_epi16(1)); }
#else
HWY_INLINE __m128i pair_products(__m128i w, __m128i a) { return _mm_maddubs_epi16(w, a); }
HWY_INLINE __m128i add_pairs(__m128i a, __m128i b) { return _mm_add_epi16(a, b); }
HWY_INLINE __m128i widen_pairs(__m128i sums) { return _mm_madd_epi16(sums, _mm_set1_epi16(1)); }
#endif

// All four quads are summed in 16 bits, where eight products reach 8 * 24 * 127 = 24384, and widened once.
HWY_INLINE VI dot_block(const VB (&quads)[4], const VI (&activations)[4], VI offset) {
  const auto front =
      add_pairs(pair_products(quads[0].raw, activations[0].raw), pair_products(quads[1].raw, activations[1].raw));
  const auto back =
      add_pairs(pair_products(quads[2].raw, activations[2].raw), pair_products(quads[3].raw, activations[3].raw));
  return hn::Add(offset, VI{widen_pairs(add_pairs(front, back))});
}

#else

HWY_INLINE VI dot_quad(VI sum, VB weights, VI activations) {
  const hn::Repartition<std::int16_t, DF> d16;
  const auto w = hn::BitCast(d16, weights);
  const auto a = hn::BitCast(d16, activations);
  const auto even = hn::Mul(hn::And(w, hn::Set(d16, 0xFF)), hn::ShiftRight<8>(hn::ShiftLeft<8>(a)));
  const auto odd = hn::Mul(hn::ShiftRight<8>(w), hn::ShiftRight<8>(a));
  const VI pairs = hn::BitCast(DI(), hn::Add(even, odd));
  return hn::Add(sum, hn::Add(hn::ShiftRight<16>(hn::ShiftLeft<16>(pairs)), hn::ShiftRight<16>(pairs)));
}

HWY_INLINE VI dot_block(const VB (&quads)[4], const VI (&activations)[4], VI offset) {
  VI sum = offset;
  for (int i = 0; i < 4; ++i) sum = dot_quad(sum, quads[i], activations[i]);
  return sum;
}

#endif

// ---- Scales ---------------------------------------------------------------------------------------------------------

// Whether rows share a pass here; with narrow vectors more than one row goes to spread_dot-inl.h.
#if HWY_CAP_GE512
constexpr bool kWide = true;
#else
constexpr bool kWide = false;
#endif

// Int8: the scale holds for four blocks, so a tile has its own sums.
struct Int8Scales {
  static constexpr std::int64_t kPerTile = 1;
  static constexpr int kMostRows = kWide ? 5 : 1;  // 20 sums, 8 decoded quads, table, scales

  template <int Rows, int Width>
  struct Sums {
    VF tile[Rows][Width];
  };

  template <int Rows, int Width>
  static HWY_INLINE void begin_tile(Sums<Rows, Width>& sums) {
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < Width; ++v) sums.tile[r][v] = hn::Zero(DF());
  }

  template <int Rows, int Width>
  static HWY_INLINE void add_block(Sums<Rows, Width>& sums, VF (&)[Rows][Width], int r, int v, VF products,
                                   VF half_scale, const ActivationRow&, std::int64_t) {
    sums.tile[r][v] = hn::MulAdd(products, half_scale, sums.tile[r][v]);
  }

  template <int Rows, int Width>
  static HWY_INLINE void end_tile(Sums<Rows, Width>& sums, VF (&total)[Rows][Width], const ActivationRow* activations,
                                  std::int64_t tile) {
    for (int r = 0; r < Rows; ++r) {
      const VF scale = hn::Set(DF(), activations[r].scale[tile]);
      for (int v = 0; v < Width; ++v) total[r][v] = hn::MulAdd(sums.tile[r][v], scale, total[r][v]);
    }
  }
};

// NVFP4: a scale per block; its product with the weight's scale is exact (4 bits times 4 bits).
struct Nvfp4Scales {
  static constexpr std::int64_t kPerTile = kTileK / 16;
  static constexpr int kMostRows = kWide ? 6 : 1;

  template <int Rows, int Width>
  struct Sums {};

  template <int Rows, int Width>
  static HWY_INLINE void begin_tile(Sums<Rows, Width>&) {}

  template <int Rows, int Width>
  static HWY_INLINE void add_block(Sums<Rows, Width>&, VF (&total)[Rows][Width], int r, int v, VF products,
                                   VF half_scale, const ActivationRow& row, std::int64_t block) {
    total[r][v] = hn::MulAdd(products, hn::Mul(half_scale, hn::Set(DF(), row.scale[block])), total[r][v]);
  }

  template <int Rows, int Width>
  static HWY_INLINE void end_tile(Sums<Rows, Width>&, VF (&)[Rows][Width], const ActivationRow*, std::int64_t) {}
};

// ---- Rows times lanes -----------------------------------------------------------------------------------------------

// Vectors of lanes that one pass over a panel keeps in registers, and how many of them share each broadcast. Narrow
// vectors go this way with one row only, which keeps all lanes: the panel is read once and in order.
struct Pass {
  static constexpr int kWidth = kWide ? 2 : kVectors;
  // Both halves of a group share each broadcast, whose loads bind otherwise (1.2x on Zen 4).
  static constexpr int kShare = kWide ? 2 : 1;
};

// What a pass asks of memory beside its own work: `lines` cache lines a tile, from `next` on, into the L2 cache.
// Measured on Zen 4, one thread, weights from memory:
//   one row        nothing: the loop is short enough that memory is always asked in time, and any prefetch slows it
//   one pass       8 tiles ahead: 4 rows read 21 GB/s with it and 14.5 without
//   several        the panel that follows in memory, spread over all passes: 16 rows x 1.2
struct Ahead {
  static constexpr std::int64_t kTiles = 8;

  const std::uint8_t* next;
  std::int64_t lines;

  static Ahead of(const std::uint8_t* panel, std::int64_t tiles, std::int64_t rows, std::int64_t passes) {
    if (rows == 1) return {panel, 0};
    if (passes == 1) return {panel + kTiles * kTileBytes, kTileBytes / 64};
    return {panel + tiles * kTileBytes, ceil_div(kTileBytes / 64, passes)};
  }

  HWY_INLINE void fetch() {
    for (std::int64_t i = 0; i < lines; ++i) __builtin_prefetch(next + 64 * i, 0, 2);
    next += 64 * lines;
  }
};

// One row's panel is longer than the L1 cache and its activations are gone when the next panel begins. Missing them one
// by one, between the lines of weights, disturbs the processor's own requests for weights: 42 GB/s of two threads at
// K = 4096, 51 where 16 tiles' activations are asked for at once (Zen 4, where a plain read gets 54).
struct Refill {
  static constexpr std::int64_t kTiles = 16;

  static HWY_INLINE void ask(const ActivationRow& row, std::int64_t tile, std::int64_t end, std::int64_t scales) {
    const std::int64_t tiles = std::min(kTiles, end - tile);
    ask_lines(row.q + kTileK * tile, kTileK * tiles);
    ask_lines(row.offset + kTileK / 16 * tile, kTileK / 16 * tiles * 4);
    ask_lines(row.scale + scales * tile, scales * tiles * 4);
  }

  template <class T>
  static HWY_INLINE void ask_lines(const T* first, std::int64_t bytes) {
    for (std::int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(reinterpret_cast<const char*>(first) + i, 0, 3);
  }
};

template <class Scales, int Rows, int Width>
struct IntegerPass {
  static constexpr int kShare = Pass::kShare;

  CodeTable table;
  VF total[Rows][Width];
  typename Scales::template Sums<Rows, Width> sums;

  HWY_INLINE void add_block(const std::uint8_t* tile, const ActivationRow* activations, int first, std::int64_t block,
                            int b) {
    for (int v0 = 0; v0 < Width; v0 += kShare) {
      DecodedBlock<kShare> decoded;
      decoded.load(table, tile + kTileScales + 256 * b, first + v0);
      VF half_scale[kShare];
      for (int v = 0; v < kShare; ++v) half_scale[v] = half_scales(tile + kLanes * b + kVectorLanes * (first + v0 + v));
      for (int r = 0; r < Rows; ++r) {
        const ActivationRow& row = activations[r];
        const VI offset = hn::Set(DI(), row.offset[block]);
        VI quads[4];
        for (int i = 0; i < 4; ++i) quads[i] = broadcast_quad(row.q + 16 * block + 4 * i);
        for (int v = 0; v < kShare; ++v) {
          const VF products = hn::ConvertTo(DF(), dot_block(decoded.quads[v], quads, offset));
          Scales::add_block(sums, total, r, v0 + v, products, half_scale[v], row, block);
        }
      }
    }
  }

  // `tiles` tiles of a panel, of `Width` vectors from `first` on.
  HWY_INLINE void run(const std::uint8_t* panel, std::int64_t tiles, const ActivationRow* activations, int first,
                      Ahead ahead, float* out) {
    table = CodeTable::load();
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < Width; ++v) total[r][v] = hn::Zero(DF());
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const std::uint8_t* bytes = panel + tile * kTileBytes;
      if (Rows == 1 && tile % Refill::kTiles == 0) Refill::ask(activations[0], tile, tiles, Scales::kPerTile);
      ahead.fetch();
      Scales::begin_tile(sums);
      add_block(bytes, activations, first, 4 * tile, 0);  // one after the other, without a loop: 4 % faster
      add_block(bytes, activations, first, 4 * tile + 1, 1);
      add_block(bytes, activations, first, 4 * tile + 2, 2);
      add_block(bytes, activations, first, 4 * tile + 3, 3);
      Scales::end_tile(sums, total, activations, tile);
    }
    for (int r = 0; r < Rows; ++r)
      for (int v = 0; v < Width; ++v) hn::StoreU(total[r][v], DF(), out + r * kLanes + kVectorLanes * (first + v));
  }
};

template <class Scales, int Rows>
HWY_NOINLINE void integer_panel(const std::uint8_t* panel, std::int64_t tiles, const ActivationRow* activations,
                                Ahead ahead, float* out) {
  constexpr int kWidth = Pass::kWidth;
  for (int first = 0; first < kVectors; first += kWidth) {
    IntegerPass<Scales, Rows, kWidth> pass;
    pass.run(panel, tiles, activations, first, ahead, out);
  }
}

using IntegerPanel = void (*)(const std::uint8_t*, std::int64_t, const ActivationRow*, Ahead, float*);

template <class Scales, std::size_t... Rows>
constexpr std::array<IntegerPanel, sizeof...(Rows)> integer_panels(std::index_sequence<Rows...>) {
  return {integer_panel<Scales, static_cast<int>(Rows) + 1>...};
}

// The rows of one pass are as many as registers hold, and as even as possible: 6 rows are 3 and 3, not 5 and 1, since
// decoding is paid for each pass.
template <class Scales>
void integer_dot(const std::byte* panel, std::int64_t k, std::int64_t panels, const ActivationRow* activations,
                 std::int64_t rows, float* out) {
  static constexpr auto kPanels = integer_panels<Scales>(std::make_index_sequence<Scales::kMostRows>());
  const std::int64_t tiles = tiles_of(k);
  for (std::int64_t p = 0; p < panels; ++p, panel += tiles * kTileBytes) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(panel);
    const std::int64_t all_passes = ceil_div(rows, Scales::kMostRows);
    Ahead ahead = Ahead::of(bytes, tiles, rows, all_passes);
    std::int64_t done = 0;
    for (std::int64_t passes = all_passes; passes > 0; --passes) {
      const std::int64_t now = ceil_div(rows - done, passes);
      kPanels[static_cast<std::size_t>(now - 1)](bytes, tiles, activations + done, ahead, out);
      ahead.next += tiles * 64 * ahead.lines;
      done += now;
      out += now * kLanes;
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
