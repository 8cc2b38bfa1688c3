#include "moe/check_expert.h"

#include <cmath>
#include <string>

#include "megamoe/error.h"

namespace megamoe {
namespace {

// What one expert must be.
struct Expected {
  std::string who;  // "expert 7"
  WeightFormat weights;
  std::int64_t hidden;
  std::int64_t inter;
  bool has_bias;
  bool needs_input_scales;
};

void check_positive(const std::string& what, float value) {
  if (!std::isfinite(value) || value <= 0.0f)
    throw Error(Code::kInvalidArgument, what, ": found ", value, ", accepted: finite numbers above 0");
}

void check_matrix(const Expected& expected, const char* part, const MatrixView& matrix, std::int64_t rows,
                  std::int64_t cols) {
  const std::string what = expected.who + " " + part;
  if (matrix.format != expected.weights || matrix.rows != rows || matrix.cols != cols) {
    throw Error(Code::kInvalidArgument, what, ": expected ", name(expected.weights), " [", rows, ", ", cols,
                "], found ", name(matrix.format), " [", matrix.rows, ", ", matrix.cols, "]");
  }
  if (matrix.data == nullptr) throw Error(Code::kInvalidArgument, what, ": expected its elements, found none");
  if (matrix.format == WeightFormat::kBf16) return;
  if (matrix.sf == nullptr) throw Error(Code::kInvalidArgument, what, ": expected its block scales, found none");
  check_positive(what + " global scale", matrix.global_scale);
}

void check_bias(const Expected& expected, const char* part, std::span<const float> bias, std::int64_t size) {
  const auto wanted = static_cast<std::size_t>(expected.has_bias ? size : 0);
  if (bias.size() != wanted) {
    throw Error(Code::kInvalidArgument, expected.who, " ", part, " bias: expected ", wanted, " elements, found ",
                bias.size());
  }
}

void check(const Expected& expected, const ExpertView& expert) {
  check_matrix(expected, "gate", expert.gate, expected.inter, expected.hidden);
  check_matrix(expected, "up", expert.up, expected.inter, expected.hidden);
  check_matrix(expected, "down", expert.down, expected.hidden, expected.inter);
  check_bias(expected, "gate", expert.gate_bias, expected.inter);
  check_bias(expected, "up", expert.up_bias, expected.inter);
  check_bias(expected, "down", expert.down_bias, expected.hidden);
  if (!expected.needs_input_scales) return;
  check_positive(expected.who + " gate and up input scale", expert.gate_up_input_scale);
  check_positive(expected.who + " down input scale", expert.down_input_scale);
}

bool needs_input_scales(const Problem& problem, ActivationFormat activations) {
  return activations == ActivationFormat::kNvfp4 && problem.activation_scale == ActivationScale::kStatic;
}

}  // namespace

void check_expert(const Problem& problem, std::int64_t index, const ExpertView& expert) {
  check({.who = "expert " + std::to_string(index),
         .weights = problem.weights,
         .hidden = problem.hidden,
         .inter = problem.inter,
         .has_bias = problem.has_bias,
         .needs_input_scales = needs_input_scales(problem, problem.activations)},
        expert);
}

void check_shared_expert(const Problem& problem, const ExpertView& expert, std::span<const float> gate) {
  check({.who = "shared expert",
         .weights = problem.shared.weights,
         .hidden = problem.hidden,
         .inter = problem.shared.inter,
         .has_bias = false,
         .needs_input_scales = needs_input_scales(problem, shared_activations(problem))},
        expert);
  const auto wanted = static_cast<std::size_t>(problem.shared.gated ? problem.hidden : 0);
  if (gate.size() != wanted) {
    throw Error(Code::kInvalidArgument, "shared expert gate vector: expected ", wanted, " elements, found ",
                gate.size());
  }
}

}  // namespace megamoe
