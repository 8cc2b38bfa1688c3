// bf16 activations by f32 products, for instruction sets without bf16 ones. Part of kernels-inl.h.

#if defined(MEGAMOE_CPU_WIDE_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_WIDE_DOT_INL_H_
#undef MEGAMOE_CPU_WIDE_DOT_INL_H_
#else
#define MEGAMOE_CPU_WIDE_DOT_INL_H_
#endif

#include "backends/cpu/decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

// Where a row's elements come from.
struct WideValues {
  static HWY_INLINE float at(const ActivationRow& row, std::int64_t k) { return row.wide[k]; }
};
struct Bf16Values {
  static HWY_INLINE float at(const ActivationRow& row, std::int64_t k) {
    const std::uint32_t bits = std::uint32_t{row.bf16[in_pair_order(k)]} << 16;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
};

// NVFP4 weights: a block's codes become f32 once and serve all rows; its sum is scaled once.
struct Nvfp4Wide {
  static constexpr WeightFormat kWeights = WeightFormat::kNvfp4;

  template <class Values, int Rows>
  static void dot(const std::byte* bytes, std::int64_t k, const ActivationRow* activations, float* out) {
    const CodeTable table = CodeTable::load();
    for (int vector = 0; vector < kVectors; ++vector) {
      const int lane = vector * kVectorLanes;
      const std::uint8_t* panel = reinterpret_cast<const std::uint8_t*>(bytes);
      VF total[Rows];
      for (int r = 0; r < Rows; ++r) total[r] = hn::Zero(DF());
      const std::int64_t blocks = k / 16;
      for (std::int64_t block = 0; block < blocks; ++block) {
        const std::uint8_t* tile = panel + block / 4 * kTileBytes;
        DecodedBlock<1> decoded;
        decoded.load(table, tile + kTileScales + 256 * (block % 4), vector);
        VF sum[Rows];
        for (int r = 0; r < Rows; ++r) sum[r] = hn::Zero(DF());
        for (int quad = 0; quad < 4; ++quad) {
          const VU word = hn::BitCast(DU(), decoded.quads[0][quad]);
          for (int i = 0; i < 4; ++i) {
            const VU byte = hn::And(hn::ShiftRightSame(word, 8 * i), hn::Set(DU(), 0xFF));
            const VI doubled = hn::Sub(hn::BitCast(DI(), byte), hn::Set(DI(), 12));
            const VF weight = hn::ConvertTo(DF(), doubled);
            for (int r = 0; r < Rows; ++r)
              sum[r] = hn::MulAdd(weight, hn::Set(DF(), Values::at(activations[r], 16 * block + 4 * quad + i)), sum[r]);
          }
        }
        const VF half_scale = half_scales(tile + kLanes * (block % 4) + lane);
        for (int r = 0; r < Rows; ++r) total[r] = hn::MulAdd(sum[r], half_scale, total[r]);
      }
      for (int r = 0; r < Rows; ++r) hn::StoreU(total[r], DF(), out + r * kLanes + lane);
    }
  }
};

struct Bf16Wide {
  static constexpr WeightFormat kWeights = WeightFormat::kBf16;

  template <class Values, int Rows>
  static void dot(const std::byte* bytes, std::int64_t k, const ActivationRow* activations, float* out) {
    for (int vector = 0; vector < kVectors; ++vector) {
      const int lane = vector * kVectorLanes;
      const std::byte* pairs = bytes + 4 * lane;
      VF total[Rows];
      for (int r = 0; r < Rows; ++r) total[r] = hn::Zero(DF());
      for (std::int64_t pair = 0; pair < k / 2; ++pair, pairs += 4 * kLanes) {
        const std::int64_t first = pair / 2 * 4 + pair % 2;
        const VU words = hn::BitCast(DU(), hn::LoadU(DB(), reinterpret_cast<const std::uint8_t*>(pairs)));
        const VF low = hn::BitCast(DF(), hn::ShiftLeft<16>(words));
        const VF high = hn::BitCast(DF(), hn::And(words, hn::Set(DU(), 0xFFFF0000u)));
        for (int r = 0; r < Rows; ++r) {
          total[r] = hn::MulAdd(low, hn::Set(DF(), Values::at(activations[r], first)), total[r]);
          total[r] = hn::MulAdd(high, hn::Set(DF(), Values::at(activations[r], first + 2)), total[r]);
        }
      }
      for (int r = 0; r < Rows; ++r) hn::StoreU(total[r], DF(), out + r * kLanes + lane);
    }
  }
};

// Rows in tiles of 4, then 2, then 1.
template <class Loop, class Values>
HWY_NOINLINE void wide_dot(const std::byte* panel, std::int64_t k, std::int64_t panels,
                           const ActivationRow* activations, std::int64_t rows, float* out) {
  for (std::int64_t p = 0; p < panels; ++p, panel += panel_bytes(Loop::kWeights, k), out += rows * kLanes) {
    std::int64_t r = 0;
    for (; r + 4 <= rows; r += 4) Loop::template dot<Values, 4>(panel, k, activations + r, out + r * kLanes);
    for (; r + 2 <= rows; r += 2) Loop::template dot<Values, 2>(panel, k, activations + r, out + r * kLanes);
    for (; r < rows; ++r) Loop::template dot<Values, 1>(panel, k, activations + r, out + r * kLanes);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
