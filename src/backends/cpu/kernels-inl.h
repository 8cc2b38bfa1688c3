// The kernels of one instruction set; included once for each by kernels.cc.

#if defined(MEGAMOE_CPU_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_KERNELS_INL_H_
#undef MEGAMOE_CPU_KERNELS_INL_H_
#else
#define MEGAMOE_CPU_KERNELS_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/kernels_plain.h"
#include "backends/cpu/packed_layout.h"
#include "hwy/highway.h"
#include "moe/activation_math.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_HAVE_SCALABLE

const Kernels* kernels_of_target() {
  static const Kernels kernels{
      .target = hwy::TargetName(HWY_TARGET),
      .nvfp4_int8 = plain::dot<plain::lane_nvfp4_int8>,
      .nvfp4_nvfp4 = plain::dot<plain::lane_nvfp4_nvfp4>,
      .nvfp4_bf16 = plain::dot<plain::lane_nvfp4_bf16>,
      .bf16_bf16 = plain::dot<plain::lane_bf16_bf16>,
      .activate = plain::activate,
      .axpy = plain::axpy,
  };
  return &kernels;
}

#else

namespace hn = hwy::HWY_NAMESPACE;

// At most 16 f32 lanes: a group is two such vectors.
using DF = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<DF>;
using DU = hn::RebindToUnsigned<DF>;
using DB = hn::Repartition<std::uint8_t, DF>;
using VF = hn::Vec<DF>;
using VI = hn::Vec<DI>;
using VU = hn::Vec<DU>;
using VB = hn::Vec<DB>;

constexpr int kVectors = static_cast<int>(kLanes) / (HWY_LANES(float) < 16 ? HWY_LANES(float) : 16);

// ---- Pieces of the inner loops --------------------------------------------------------------------------------------

// Codes to 2 * e2m1 + 12, in 0..24: unsigned, as the byte products of x86 want one operand.
class CodeTable {
 public:
  CodeTable() {
    alignas(64) std::uint8_t values[64];
    constexpr int kDoubled[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    for (int i = 0; i < 64; ++i) {
      const int magnitude = kDoubled[i & 7];
      values[i] = static_cast<std::uint8_t>((i & 8) ? 12 - magnitude : 12 + magnitude);
    }
    table_ = hn::Load(DB(), values);
  }

  HWY_INLINE VB low(VU words) const { return look_up(hn::BitCast(DB(), words)); }
  HWY_INLINE VB high(VU words) const { return look_up(hn::BitCast(DB(), hn::ShiftRight<4>(words))); }

 private:
  HWY_INLINE VB look_up(VB codes) const {
#if HWY_TARGET == HWY_AVX3_DL
    // vpermb looks at six bits; the table repeats four times, so the neighbour nibble's two bits do not matter.
    return VB{_mm512_permutexvar_epi8(codes.raw, table_.raw)};
#else
    return hn::TableLookupBytes(table_, hn::And(codes, hn::Set(DB(), 15)));
#endif
  }

  VB table_;
};

// sum[lane] += the four products of the lane's weight bytes (0..24) with the four activations.
HWY_INLINE VI dot_quad(VI sum, VB weights, VI activations) {
#if HWY_TARGET == HWY_AVX3_DL
  // Through the assembler: Highway 1.0.3 enables AVX-VNNI for this target where it means AVX512-VNNI, so the
  // intrinsic does not compile in it.
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(weights.raw), "v"(activations.raw));
  return sum;
#elif HWY_TARGET == HWY_AVX3
  const __m512i pairs = _mm512_maddubs_epi16(weights.raw, activations.raw);
  return hn::Add(sum, VI{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))});
#elif HWY_TARGET == HWY_AVX2
  // Pairs reach 2 * 24 * 127 = 6096: vpmaddubsw does not saturate.
  const __m256i pairs = _mm256_maddubs_epi16(weights.raw, activations.raw);
  return hn::Add(sum, VI{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))});
#else
  const hn::Repartition<std::int16_t, DF> d16;
  const auto w = hn::BitCast(d16, weights);
  const auto a = hn::BitCast(d16, activations);
  const auto even = hn::Mul(hn::And(w, hn::Set(d16, 0xFF)), hn::ShiftRight<8>(hn::ShiftLeft<8>(a)));
  const auto odd = hn::Mul(hn::ShiftRight<8>(w), hn::ShiftRight<8>(a));
  const VI pairs = hn::BitCast(DI(), hn::Add(even, odd));
  return hn::Add(sum, hn::Add(hn::ShiftRight<16>(hn::ShiftLeft<16>(pairs)), hn::ShiftRight<16>(pairs)));
#endif
}

// Half of the block scales of the lanes of one vector: the weights' doubled codes are halved here, for nothing.
HWY_INLINE VF half_scales(const std::uint8_t* bytes) {
  const VU codes = hn::PromoteTo(DU(), hn::LoadU(hn::Rebind<std::uint8_t, DU>(), bytes));
  const VU bits = hn::Add(hn::ShiftLeft<20>(codes), hn::Set(DU(), std::uint32_t{126 - kUe5m3Bias} << 23));
  return hn::BitCast(DF(), bits);
}

HWY_INLINE VI broadcast_quad(const std::int8_t* q) {
  std::int32_t word;
  std::memcpy(&word, q, sizeof(word));
  return hn::Set(DI(), word);
}

// One block of 16 K of `Share` vectors, decoded.
template <int Share>
struct DecodedBlock {
  VB quads[Share][4];

  HWY_INLINE void load(const CodeTable& table, const std::uint8_t* codes, int first_vector) {
    for (int v = 0; v < Share; ++v) {
      const auto lane = static_cast<std::size_t>(first_vector + v) * hn::Lanes(DF());
      for (int half = 0; half < 2; ++half) {
        const VB bytes = hn::LoadU(DB(), codes + 128 * half + 4 * lane);
        const VU words = hn::BitCast(DU(), bytes);
        quads[v][2 * half] = table.low(words);
        quads[v][2 * half + 1] = table.high(words);
      }
    }
  }

  HWY_INLINE VI dot(int v, VI sum, const std::int8_t* q) const {
    for (int quad = 0; quad < 4; ++quad) sum = dot_quad(sum, quads[v][quad], broadcast_quad(q + 4 * quad));
    return sum;
  }
};

// ---- NVFP4 weights, integer activations -----------------------------------------------------------------------------

// How many vectors of lanes and rows of activations one pass keeps in registers. 512-bit: both halves of a group share
// each broadcast, which binds otherwise (1.2x on Zen 4). 256-bit and below have 16 registers: one row keeps all lanes
// (the panel is read once, for decode); more rows go over the panel again, from the L2 cache.
template <int Rows>
struct Pass {
#if HWY_CAP_GE512
  static constexpr int kWidth = 2;
  static constexpr int kShare = 2;
#else
  static constexpr int kWidth = Rows == 1 ? kVectors : (Rows == 2 ? (kVectors > 2 ? 2 : 1) : 1);
  static constexpr int kShare = 1;
#endif
};

// Int8: the scale holds for four blocks, so a tile has its own sums.
struct Int8Scales {
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

// Rows x Width vectors of a group, from vector `first` on.
template <class Scales, int Rows, int Width>
HWY_INLINE void dot_nvfp4_integer_pass(const std::uint8_t* panel, std::int64_t tiles, const ActivationRow* activations,
                                       int first, float* out) {
  constexpr int kShare = Pass<Rows>::kShare;
  const CodeTable table;
  VF total[Rows][Width];
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Width; ++v) total[r][v] = hn::Zero(DF());
  typename Scales::template Sums<Rows, Width> sums;

  for (std::int64_t tile = 0; tile < tiles; ++tile, panel += kTileBytes) {
    Scales::begin_tile(sums);
    for (int b = 0; b < 4; ++b) {
      const std::int64_t block = 4 * tile + b;
      for (int v0 = 0; v0 < Width; v0 += kShare) {
        DecodedBlock<kShare> decoded;
        decoded.load(table, panel + kTileScales + 256 * b, first + v0);
        VF half_scale[kShare];
        for (int v = 0; v < kShare; ++v)
          half_scale[v] = half_scales(panel + kLanes * b + static_cast<std::size_t>(first + v0 + v) * hn::Lanes(DF()));
        for (int r = 0; r < Rows; ++r) {
          const ActivationRow& row = activations[r];
          const VI offset = hn::Set(DI(), row.offset[block]);
          for (int v = 0; v < kShare; ++v) {
            const VI products = decoded.dot(v, offset, row.q + 16 * block);
            Scales::add_block(sums, total, r, v0 + v, hn::ConvertTo(DF(), products), half_scale[v], row, block);
          }
        }
      }
    }
    Scales::end_tile(sums, total, activations, tile);
  }

  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Width; ++v)
      hn::StoreU(total[r][v], DF(), out + r * kLanes + static_cast<std::size_t>(first + v) * hn::Lanes(DF()));
}

template <class Scales>
struct Nvfp4Integer {
  template <int Rows>
  static void dot(const std::byte* panel, std::int64_t k, const ActivationRow* activations, float* out) {
    constexpr int kWidth = Pass<Rows>::kWidth;
    for (int first = 0; first < kVectors; first += kWidth)
      dot_nvfp4_integer_pass<Scales, Rows, kWidth>(reinterpret_cast<const std::uint8_t*>(panel), tiles_of(k),
                                                   activations, first, out);
  }
};

// ---- bf16 activations, products in f32 ------------------------------------------------------------------------------

// NVFP4 weights: a block's codes become f32 once and serve all rows; its sum is scaled once.
struct Nvfp4Wide {
  template <int Rows>
  static void dot(const std::byte* bytes, std::int64_t k, const ActivationRow* activations, float* out) {
    const CodeTable table;
    for (int vector = 0; vector < kVectors; ++vector) {
      const auto lane = static_cast<std::size_t>(vector) * hn::Lanes(DF());
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
              sum[r] = hn::MulAdd(weight, hn::Set(DF(), activations[r].wide[16 * block + 4 * quad + i]), sum[r]);
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
  template <int Rows>
  static void dot(const std::byte* bytes, std::int64_t k, const ActivationRow* activations, float* out) {
    for (int vector = 0; vector < kVectors; ++vector) {
      const auto lane = static_cast<std::size_t>(vector) * hn::Lanes(DF());
      const std::byte* pairs = bytes + 4 * lane;
      VF total[Rows];
      for (int r = 0; r < Rows; ++r) total[r] = hn::Zero(DF());
      for (std::int64_t i = 0; i < k; i += 2, pairs += 4 * kLanes) {
        const VU words = hn::BitCast(DU(), hn::LoadU(DB(), reinterpret_cast<const std::uint8_t*>(pairs)));
        const VF even = hn::BitCast(DF(), hn::ShiftLeft<16>(words));
        const VF odd = hn::BitCast(DF(), hn::And(words, hn::Set(DU(), 0xFFFF0000u)));
        for (int r = 0; r < Rows; ++r) {
          total[r] = hn::MulAdd(even, hn::Set(DF(), activations[r].wide[i]), total[r]);
          total[r] = hn::MulAdd(odd, hn::Set(DF(), activations[r].wide[i + 1]), total[r]);
        }
      }
      for (int r = 0; r < Rows; ++r) hn::StoreU(total[r], DF(), out + r * kLanes + lane);
    }
  }
};

// Rows in tiles of 4, then 2, then 1.
template <class Loop>
HWY_NOINLINE void dot_rows(const std::byte* panel, std::int64_t k, const ActivationRow* activations, std::int64_t rows,
                           float* out) {
  std::int64_t r = 0;
  for (; r + 4 <= rows; r += 4) Loop::template dot<4>(panel, k, activations + r, out + r * kLanes);
  for (; r + 2 <= rows; r += 2) Loop::template dot<2>(panel, k, activations + r, out + r * kLanes);
  for (; r < rows; ++r) Loop::template dot<1>(panel, k, activations + r, out + r * kLanes);
}

void dot_nvfp4_int8(const std::byte* panel, std::int64_t k, const ActivationRow* activations, std::int64_t rows,
                    float* out) {
  dot_rows<Nvfp4Integer<Int8Scales> >(panel, k, activations, rows, out);
}
void dot_nvfp4_nvfp4(const std::byte* panel, std::int64_t k, const ActivationRow* activations, std::int64_t rows,
                     float* out) {
  dot_rows<Nvfp4Integer<Nvfp4Scales> >(panel, k, activations, rows, out);
}
void dot_nvfp4_bf16(const std::byte* panel, std::int64_t k, const ActivationRow* activations, std::int64_t rows,
                    float* out) {
  dot_rows<Nvfp4Wide>(panel, k, activations, rows, out);
}
void dot_bf16_bf16(const std::byte* panel, std::int64_t k, const ActivationRow* activations, std::int64_t rows,
                   float* out) {
  dot_rows<Bf16Wide>(panel, k, activations, rows, out);
}

// ---- Epilogues ------------------------------------------------------------------------------------------------------

#if HWY_NATIVE_FMA

HWY_INLINE VF exp_f32(VF x) {
  using C = ExpConstants;
  const DF d;
  const DI di;
  const VF lowest = hn::Set(d, C::kLowest);
  const VF highest = hn::Set(d, C::kHighest);
  x = hn::IfThenElse(hn::Lt(x, lowest), lowest, x);
  x = hn::IfThenElse(hn::Gt(x, highest), highest, x);
  const VF magic = hn::Set(d, C::kRound);
  const VF rounded = hn::MulAdd(x, hn::Set(d, C::kLog2e), magic);
  const VF n = hn::Sub(rounded, magic);
  const VF r = hn::MulAdd(n, hn::Set(d, -C::kLn2Low), hn::MulAdd(n, hn::Set(d, -C::kLn2High), x));
  VF p = hn::MulAdd(hn::Set(d, C::kC5), r, hn::Set(d, C::kC4));
  p = hn::MulAdd(p, r, hn::Set(d, C::kC3));
  p = hn::MulAdd(p, r, hn::Set(d, C::kC2));
  p = hn::MulAdd(p, r, hn::Set(d, C::kC1));
  p = hn::MulAdd(p, r, hn::Set(d, C::kC0));
  const VF mantissa = hn::Add(hn::MulAdd(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
  const VI exponent = hn::Sub(hn::BitCast(di, rounded), hn::BitCast(di, magic));
  const VI half = hn::ShiftRight<1>(exponent);
  const VI bias = hn::Set(di, 127);
  const VF scale_a = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const VF scale_b = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(exponent, half), bias)));
  return hn::Mul(hn::Mul(mantissa, scale_a), scale_b);
}

HWY_INLINE VF activate_vector(const Activation& activation, VF gate, VF up) {
  const DF d;
  const VF one = hn::Set(d, 1.0f);
  const VF limit = hn::Set(d, activation.limit);
  const VF lower = hn::Neg(limit);
  gate = hn::IfThenElse(hn::Gt(gate, limit), limit, gate);
  up = hn::IfThenElse(hn::Gt(up, limit), limit, up);
  up = hn::IfThenElse(hn::Lt(up, lower), lower, up);
  VF slope = gate;
  if (activation.kind == Activation::Kind::kSwigluOai) {
    slope = hn::Mul(hn::Set(d, activation.alpha), gate);
    up = hn::Add(up, one);
  }
  return hn::Mul(hn::Div(gate, hn::Add(one, exp_f32(hn::Neg(slope)))), up);
}

void activate(const Activation& activation, const float* gate, const float* up, std::int64_t count, float* out) {
  const DF d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(activate_vector(activation, hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, out + i);
  for (; i < count; ++i) out[i] = megamoe::activate(activation, gate[i], up[i]);
}

void axpy(float weight, const float* y, std::int64_t count, float* sum) {
  const DF d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes)
    hn::StoreU(hn::MulAdd(hn::Set(d, weight), hn::LoadU(d, y + i), hn::LoadU(d, sum + i)), d, sum + i);
  for (; i < count; ++i) sum[i] = std::fma(weight, y[i], sum[i]);
}

#else  // the contract fixes a fused multiply-add here, which these instruction sets do not have

using plain::activate;
using plain::axpy;

#endif  // HWY_NATIVE_FMA

const Kernels* kernels_of_target() {
  static const Kernels kernels{
      .target = hwy::TargetName(HWY_TARGET),
      .nvfp4_int8 = dot_nvfp4_int8,
      .nvfp4_nvfp4 = dot_nvfp4_nvfp4,
      .nvfp4_bf16 = dot_nvfp4_bf16,
      .bf16_bf16 = dot_bf16_bf16,
      .activate = activate,
      .axpy = axpy,
  };
  return &kernels;
}

#endif  // vector form

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
