// Integer products of several rows for narrow vectors, whose instructions take no broadcast from memory and whose
// registers are 16. Part of kernels-inl.h, for each instruction set.
//
// Each quad of the activations, the offset and the scale of a block are spread once: written to every lane of a vector
// in the L1 cache, which the products of all lanes of all panels then take as their operand from memory. 128 products
// with a row are 11 operations, where broadcasts, offset and pointers made them 18. What is added, and in which order,
// is integer_dot-inl.h's, so a row's bits do not depend on how many others there are.

#if defined(MEGAMOE_CPU_SPREAD_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_SPREAD_DOT_INL_H_
#undef MEGAMOE_CPU_SPREAD_DOT_INL_H_
#else
#define MEGAMOE_CPU_SPREAD_DOT_INL_H_
#endif

#include <algorithm>
#include <array>
#include <utility>

#include "backends/cpu/integer_dot-inl.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

#if HWY_CAP_GE512

template <class Scales>
constexpr DotFunction kIntegerDot = integer_dot<Scales>;

#else

constexpr std::int64_t kPassRows = 8;     // their sums, 4 quads of weights, a scale and a constant are 14 registers
constexpr std::int64_t kSpreadRows = 32;  // spread at once: a tile of them is 21 KiB, beside 3 KiB of weights

constexpr std::int64_t kVectorBytes = 4 * kVectorLanes;

HWY_INLINE VI load_spread(const std::uint8_t* at) { return hn::Load(DI(), reinterpret_cast<const std::int32_t*>(at)); }
HWY_INLINE void store_spread(VI value, std::uint8_t* at) {
  hn::Store(value, DI(), reinterpret_cast<std::int32_t*>(at));
}
HWY_INLINE void store_spread(float value, std::uint8_t* at) {
  store_spread(hn::BitCast(DI(), hn::Set(DF(), value)), at);
}

// A tile of K of some rows. A block of a row is its quads, its offset and, where each block has one, its scale; a
// tile's scale, where it has one, lies behind the tile's blocks.
template <class Scales>
struct SpreadRows {
  static constexpr bool kScaleOfTile = Scales::kPerTile == 1;
  static constexpr std::int64_t kBlockBytes = (kScaleOfTile ? 5 : 6) * kVectorBytes;
  static constexpr std::int64_t kRowBytes = 4 * kBlockBytes + (kScaleOfTile ? kVectorBytes : 0);

  alignas(64) std::uint8_t bytes[kSpreadRows * kRowBytes];

  HWY_INLINE void fill(const ActivationRow* activations, std::int64_t rows, std::int64_t tile) {
    std::uint8_t* to = bytes;
    for (std::int64_t r = 0; r < rows; ++r) {
      const ActivationRow& row = activations[r];
      for (std::int64_t block = 4 * tile; block < 4 * tile + 4; ++block, to += kBlockBytes) {
        for (int i = 0; i < 4; ++i) store_spread(broadcast_quad(row.q + 16 * block + 4 * i), to + i * kVectorBytes);
        store_spread(hn::Set(DI(), row.offset[block]), to + 4 * kVectorBytes);
        if (!kScaleOfTile) store_spread(row.scale[block], to + 5 * kVectorBytes);
      }
      if (kScaleOfTile) {
        store_spread(row.scale[tile], to);
        to += kVectorBytes;
      }
    }
  }
};

// A tile of a panel: of each vector of lanes and each block the quads and half of the scale.
struct DecodedTile {
  static constexpr std::int64_t kBlockBytes = 5 * kVectorBytes;

  alignas(64) std::uint8_t bytes[kVectors * 4 * kBlockBytes];

  HWY_INLINE void fill(const std::uint8_t* packed) {
    const CodeTable table = CodeTable::load();
    std::uint8_t* to = bytes;
    for (int v = 0; v < kVectors; ++v)
      for (int b = 0; b < 4; ++b, to += kBlockBytes) {
        DecodedBlock<1> weights;
        weights.load(table, packed + kTileScales + 256 * b, v);
        for (int i = 0; i < 4; ++i) store_spread(hn::BitCast(DI(), weights.quads[0][i]), to + i * kVectorBytes);
        const VF scale = half_scales(packed + kLanes * b + kVectorLanes * v);
        store_spread(hn::BitCast(DI(), scale), to + 4 * kVectorBytes);
      }
  }
};

// Adds the products of a tile with `Rows` rows to `out`.
template <class Scales, int Rows>
HWY_NOINLINE void add_spread(const DecodedTile& tile, const std::uint8_t* rows, float* out) {
  using Spread = SpreadRows<Scales>;
  const std::uint8_t* decoded = tile.bytes;
  for (int v = 0; v < kVectors; ++v, out += kVectorLanes) {
    VF sums[Rows];
    unrolled<Rows>([&](int r) { sums[r] = Spread::kScaleOfTile ? hn::Zero(DF()) : hn::LoadU(DF(), out + r * kLanes); });
    const std::uint8_t* block = rows;
    for (int b = 0; b < 4; ++b, block += Spread::kBlockBytes, decoded += DecodedTile::kBlockBytes) {
      VB weights[4];
      for (int i = 0; i < 4; ++i) weights[i] = hn::BitCast(DB(), load_spread(decoded + i * kVectorBytes));
      const VF half_scale = hn::BitCast(DF(), load_spread(decoded + 4 * kVectorBytes));
      unrolled<Rows>([&](int r) {
        const std::uint8_t* row = block + r * Spread::kRowBytes;
        const VI quads[4] = {load_spread(row), load_spread(row + kVectorBytes), load_spread(row + 2 * kVectorBytes),
                             load_spread(row + 3 * kVectorBytes)};
        const VF products = hn::ConvertTo(DF(), dot_block(weights, quads, load_spread(row + 4 * kVectorBytes)));
        VF scale = half_scale;
        if (!Spread::kScaleOfTile) scale = hn::Mul(half_scale, hn::BitCast(DF(), load_spread(row + 5 * kVectorBytes)));
        sums[r] = hn::MulAdd(products, scale, sums[r]);
      });
    }
    unrolled<Rows>([&](int r) {
      float* total = out + r * kLanes;
      if (Spread::kScaleOfTile)
        sums[r] =
            hn::MulAdd(sums[r], hn::BitCast(DF(), load_spread(block + r * Spread::kRowBytes)), hn::LoadU(DF(), total));
      hn::StoreU(sums[r], DF(), total);
    });
  }
}

using AddSpread = void (*)(const DecodedTile&, const std::uint8_t*, float*);

template <class Scales, std::size_t... Rows>
constexpr std::array<AddSpread, sizeof...(Rows)> add_spread_table(std::index_sequence<Rows...>) {
  return {add_spread<Scales, static_cast<int>(Rows) + 1>...};
}

constexpr std::int64_t kAheadTiles = 3;

// Asks for the tile that a panel needs next but two; behind its last ones for the first ones of the panel as many
// panels further, which follow in the next call.
HWY_INLINE void ask_ahead(const std::uint8_t* panel, std::int64_t tile, std::int64_t tiles, std::int64_t panels) {
  std::int64_t next = tile + kAheadTiles;
  if (next >= tiles) next += (panels - 1) * tiles;
  const std::uint8_t* at = panel + next * kTileBytes;
  for (std::int64_t line = 0; line < kTileBytes / 64; ++line) __builtin_prefetch(at + 64 * line, 0, 2);
}

// Tile by tile of K, so that the rows are spread once for all panels; each panel's tile is decoded once for all rows.
template <class Scales>
void spread_dot(const std::byte* panel, std::int64_t k, std::int64_t panels, const ActivationRow* activations,
                std::int64_t rows, float* out) {
  if (rows == 1) return integer_dot<Scales>(panel, k, panels, activations, rows, out);
  static constexpr auto kAdd = add_spread_table<Scales>(std::make_index_sequence<kPassRows>());
  const auto* packed = reinterpret_cast<const std::uint8_t*>(panel);
  const std::int64_t tiles = tiles_of(k);
  const std::int64_t batch = ceil_div(rows, ceil_div(rows, kSpreadRows));
  std::fill(out, out + panels * rows * kLanes, 0.0f);
  SpreadRows<Scales> spread;
  DecodedTile decoded;
  for (std::int64_t tile = 0; tile < tiles; ++tile)
    for (std::int64_t begin = 0; begin < rows; begin += batch) {
      const std::int64_t end = std::min(rows, begin + batch);
      spread.fill(activations + begin, end - begin, tile);
      for (std::int64_t p = 0; p < panels; ++p) {
        const std::uint8_t* of_panel = packed + p * tiles * kTileBytes;
        if (begin == 0) ask_ahead(of_panel, tile, tiles, panels);
        decoded.fill(of_panel + tile * kTileBytes);
        for (std::int64_t done = begin, passes = ceil_div(end - begin, kPassRows); passes > 0; --passes) {
          const std::int64_t now = ceil_div(end - done, passes);
          kAdd[static_cast<std::size_t>(now - 1)](
              decoded, spread.bytes + (done - begin) * SpreadRows<Scales>::kRowBytes, out + (p * rows + done) * kLanes);
          done += now;
        }
      }
    }
}

template <class Scales>
constexpr DotFunction kIntegerDot = spread_dot<Scales>;

#endif  // HWY_CAP_GE512

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
