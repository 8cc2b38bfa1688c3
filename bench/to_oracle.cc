#include "bench/to_oracle.h"

namespace megamoe::bench {
namespace {

oracle::Activations to_oracle(ActivationFormat format) {
  switch (format) {
    case ActivationFormat::kBf16:
      return oracle::Activations::kBf16;
    case ActivationFormat::kNvfp4:
      return oracle::Activations::kNvfp4;
    case ActivationFormat::kInt8:
      return oracle::Activations::kInt8;
  }
  return oracle::Activations::kBf16;
}

oracle::Matrix to_oracle(const MatrixView& matrix) {
  return {.format = matrix.format == WeightFormat::kNvfp4 ? oracle::Weights::kNvfp4 : oracle::Weights::kBf16,
          .rows = matrix.rows,
          .cols = matrix.cols,
          .data = reinterpret_cast<const unsigned char*>(matrix.data),
          .sf = reinterpret_cast<const unsigned char*>(matrix.sf),
          .global = static_cast<double>(matrix.global_scale)};
}

oracle::Rows to_oracle(const Intermediate::Rows& rows) {
  return {.format = to_oracle(rows.format),
          .rows = rows.rows,
          .inter = rows.inter,
          .bf16 = rows.bf16,
          .codes = rows.codes,
          .sf = rows.sf,
          .global = rows.global_scale,
          .int8 = rows.int8,
          .int8_scale = rows.int8_scale};
}

}  // namespace

oracle::Expert to_oracle(const ExpertView& expert) {
  return {.gate = to_oracle(expert.gate),
          .up = to_oracle(expert.up),
          .down = to_oracle(expert.down),
          .gate_bias = expert.gate_bias,
          .up_bias = expert.up_bias,
          .down_bias = expert.down_bias,
          .gate_up_input_scale = static_cast<double>(expert.gate_up_input_scale),
          .down_input_scale = static_cast<double>(expert.down_input_scale)};
}

oracle::Intermediate to_oracle(const Intermediate& intermediate) {
  return {.routed = to_oracle(intermediate.routed),
          .shared = to_oracle(intermediate.shared),
          .row_of = intermediate.row_of,
          .y_is_bf16 = intermediate.y_is_bf16};
}

oracle::Layer to_oracle(const Problem& problem) {
  return {
      .hidden = problem.hidden,
      .inter = problem.inter,
      .top_k = problem.top_k,
      .activations = to_oracle(problem.activations),
      .static_scale = problem.activation_scale == ActivationScale::kStatic,
      .kind = problem.activation.kind == Activation::Kind::kSwiglu ? oracle::Kind::kSwiglu : oracle::Kind::kSwigluOai,
      .limit = static_cast<double>(problem.activation.limit),
      .alpha = static_cast<double>(problem.activation.alpha),
      .weight_before_gemm2 = problem.topk_weight == TopkWeightPlace::kBeforeGemm2,
      .shared_inter = problem.shared.inter,
      // By the contract a bf16 shared expert takes bf16 activations; said again here, not asked of the library.
      .shared_activations =
          problem.shared.weights == WeightFormat::kBf16 ? oracle::Activations::kBf16 : to_oracle(problem.activations)};
}

}  // namespace megamoe::bench
