// The kernels of one instruction set; included once for each by kernels.cc.

#if defined(MEGAMOE_CPU_KERNELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_KERNELS_INL_H_
#undef MEGAMOE_CPU_KERNELS_INL_H_
#else
#define MEGAMOE_CPU_KERNELS_INL_H_
#endif

#include "backends/cpu/kernels.h"
#include "backends/cpu/kernels_plain.h"
#include "hwy/highway.h"

#if HWY_TARGET != HWY_SCALAR && !HWY_HAVE_SCALABLE
#include "backends/cpu/bf16_dot-inl.h"
#include "backends/cpu/epilogue-inl.h"
#include "backends/cpu/integer_dot-inl.h"
#include "backends/cpu/pack-inl.h"
#include "backends/cpu/round-inl.h"
#include "backends/cpu/spread_dot-inl.h"
#include "backends/cpu/wide_dot-inl.h"
#endif

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
      .bf16_bf16 = plain::dot<plain::lane_bf16_bf16, WeightFormat::kBf16>,
      .round_int8 = plain::round_int8,
      .round_nvfp4 = plain::round_nvfp4,
      .round_bf16 = plain::round_bf16,
      .round_bf16_pairs = plain::round_bf16_pairs,
      .widen_bf16 = plain::widen_bf16,
      .activate = plain::activate,
      .gate_up = plain::gate_up,
      .scale = plain::scale,
      .axpy = plain::axpy,
      .pack_words = plain::pack_words,
      .pack_scales = plain::pack_scales,
  };
  return &kernels;
}

#else

const Kernels* kernels_of_target() {
  static const Kernels kernels{
      .target = hwy::TargetName(HWY_TARGET),
      .nvfp4_int8 = kIntegerDot<Int8Scales>,
      .nvfp4_nvfp4 = kIntegerDot<Nvfp4Scales>,
      .nvfp4_bf16 = wide_dot<Nvfp4Wide, WideValues>,
      .bf16_bf16 = wide_dot<Bf16Wide, WideValues>,
      .round_int8 = round_int8,
      .round_nvfp4 = round_nvfp4,
      .round_bf16 = round_bf16,
      .round_bf16_pairs = round_bf16_pairs,
      .widen_bf16 = widen_bf16,
      .activate = activate,
      .gate_up = gate_up,
      .scale = scale,
      .axpy = axpy,
      .pack_words = pack_words,
      .pack_scales = pack_scales,
  };
  return &kernels;
}

#if HWY_TARGET == HWY_AVX3_DL

// The same for a machine that has AVX512-BF16, which Highway's targets do not know of.
const Kernels* kernels_with_bf16_products() {
  static const Kernels kernels = [] {
    Kernels all = *kernels_of_target();
    all.target = "AVX3_BF16";
    all.bf16_rows = true;
    all.nvfp4_bf16 = bf16_products_nvfp4;
    all.bf16_bf16 = wide_dot<Bf16Wide, Bf16Values>;
    return all;
  }();
  return &kernels;
}

#endif

#endif  // vector form

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
