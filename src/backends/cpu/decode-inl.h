// NVFP4 weights of a packed tile as bytes and scales in registers. Part of kernels-inl.h, for each instruction set.

#if defined(MEGAMOE_CPU_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_DECODE_INL_H_
#undef MEGAMOE_CPU_DECODE_INL_H_
#else
#define MEGAMOE_CPU_DECODE_INL_H_
#endif

#include <cstring>

#include "backends/cpu/kernels.h"
#include "backends/cpu/packed_layout.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

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
constexpr int kVectorLanes = static_cast<int>(kLanes) / kVectors;

// Codes to 2 * e2m1 + 12. An aggregate: functions that the compiler writes itself do not belong to this target.
struct CodeTable {
  VB table;

  static HWY_INLINE CodeTable load() { return {hn::LoadU(DB(), kUnsignedOfPacked.data())}; }

  HWY_INLINE VB low(VU words) const { return look_up(hn::BitCast(DB(), words)); }
  HWY_INLINE VB high(VU words) const { return look_up(hn::BitCast(DB(), hn::ShiftRight<4>(words))); }

  HWY_INLINE VB look_up(VB codes) const {
#if HWY_TARGET == HWY_AVX3_DL
    // vpermb looks at six bits; the table repeats four times, so the neighbour nibble's two bits do not matter.
    return VB{_mm512_permutexvar_epi8(codes.raw, table.raw)};
#else
    return hn::TableLookupBytes(table, hn::And(codes, hn::Set(DB(), 15)));
#endif
  }
};

// Calls step(0) to step(N - 1). A loop that the compiler leaves as one keeps the registers it indexes in memory.
template <int N, class Step>
HWY_INLINE void unrolled(const Step& step) {
  if constexpr (N > 0) {
    unrolled<N - 1>(step);
    step(N - 1);
  }
}

// Half of the block scales of the lanes of one vector: the weights' doubled codes are halved here, for nothing.
HWY_INLINE VF half_scales(const std::uint8_t* bytes) {
  const VU codes = hn::PromoteTo(DU(), hn::LoadU(hn::Rebind<std::uint8_t, DU>(), bytes));
  const VU bits = hn::Add(hn::ShiftLeft<20>(codes), hn::Set(DU(), std::uint32_t{126 - kUe5m3Bias} << 23));
  return hn::BitCast(DF(), bits);
}

// Four activations in every lane.
HWY_INLINE VI broadcast_quad(const std::int8_t* q) {
  std::int32_t word;
  std::memcpy(&word, q, sizeof(word));
  return hn::Set(DI(), word);
}

// One block of 16 K of `Share` vectors: quads[v][i] holds elements 4 i to 4 i + 3 of each lane.
template <int Share>
struct DecodedBlock {
  VB quads[Share][4];

  HWY_INLINE void load(const CodeTable& table, const std::uint8_t* codes, int first_vector) {
    for (int v = 0; v < Share; ++v)
      for (int half = 0; half < 2; ++half) {
        const VB bytes = hn::LoadU(DB(), codes + 128 * half + 4 * kVectorLanes * (first_vector + v));
        const VU words = hn::BitCast(DU(), bytes);
        quads[v][2 * half] = table.low(words);
        quads[v][2 * half + 1] = table.high(words);
      }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
