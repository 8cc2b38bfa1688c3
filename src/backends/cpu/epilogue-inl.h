// What happens to the sums of the first GEMM, and the weighted sum of the second one's rows. Part of kernels-inl.h, for
// each instruction set.

#if defined(MEGAMOE_CPU_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MEGAMOE_CPU_EPILOGUE_INL_H_
#undef MEGAMOE_CPU_EPILOGUE_INL_H_
#else
#define MEGAMOE_CPU_EPILOGUE_INL_H_
#endif

#include <cmath>

#include "backends/cpu/decode-inl.h"
#include "backends/cpu/kernels_plain.h"
#include "moe/activation_math.h"

HWY_BEFORE_NAMESPACE();
namespace megamoe::cpu {
namespace HWY_NAMESPACE {

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

// Lanes 0-15 of a group's sums are the gates of its channels, 16-31 their ups.
void gate_up(const Activation& activation, const GateUp& of, const float* sums, float* out) {
  const DF d;
  for (int i = 0; i < kPairLanes; i += kVectorLanes) {
    VF gate = hn::Mul(hn::LoadU(d, sums + i), hn::Set(d, of.gate_scale));
    VF up = hn::Mul(hn::LoadU(d, sums + kPairLanes + i), hn::Set(d, of.up_scale));
    if (of.gate_bias != nullptr) {
      gate = hn::Add(gate, hn::LoadU(d, of.gate_bias + i));
      up = hn::Add(up, hn::LoadU(d, of.up_bias + i));
    }
    const VF result = activate_vector(activation, gate, up);
    hn::StoreU(hn::Mul(result, hn::Set(d, of.row_weight)), d, out + i);
  }
}

void scale(const float* sums, float scale, const float* bias, float row_weight, std::int64_t count, float* y) {
  const DF d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    VF value = hn::Mul(hn::LoadU(d, sums + i), hn::Set(d, scale));
    if (bias != nullptr) value = hn::Add(value, hn::Mul(hn::LoadU(d, bias + i), hn::Set(d, row_weight)));
    hn::StoreU(value, d, y + i);
  }
  if (i < count) plain::scale(sums + i, scale, bias == nullptr ? nullptr : bias + i, row_weight, count - i, y + i);
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
using plain::gate_up;
using plain::scale;

#endif  // HWY_NATIVE_FMA

}  // namespace HWY_NAMESPACE
}  // namespace megamoe::cpu
HWY_AFTER_NAMESPACE();

#endif  // include guard of this target
