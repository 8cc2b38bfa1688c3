#include "backends/reference/prepare.h"

#include "moe/check_expert.h"

namespace megamoe::reference {
namespace {

std::vector<std::byte> copy(const std::byte* from, std::int64_t bytes) { return {from, from + bytes}; }
std::vector<float> copy(std::span<const float> from) { return {from.begin(), from.end()}; }

Matrix copy(const MatrixView& view) {
  const std::int64_t elements = view.rows * view.cols;
  Matrix matrix;
  matrix.format = view.format;
  if (view.format == WeightFormat::kBf16) {
    matrix.data = copy(view.data, 2 * elements);
  } else {
    matrix.data = copy(view.data, elements / 2);
    matrix.sf = copy(view.sf, elements / kNvfp4Block);
    matrix.global_scale = view.global_scale;
  }
  return matrix;
}

Expert copy(const ExpertView& view, ActivationScale activation_scale) {
  const bool is_static = activation_scale == ActivationScale::kStatic;
  return {.gate = copy(view.gate),
          .up = copy(view.up),
          .down = copy(view.down),
          .gate_bias = copy(view.gate_bias),
          .up_bias = copy(view.up_bias),
          .down_bias = copy(view.down_bias),
          .gate_up_input_scale = is_static ? view.gate_up_input_scale : 0.0f,
          .down_input_scale = is_static ? view.down_input_scale : 0.0f};
}

std::size_t bytes_of(const Expert& expert) {
  std::size_t bytes = 0;
  for (const Matrix* matrix : {&expert.gate, &expert.up, &expert.down})
    bytes += matrix->data.size() + matrix->sf.size();
  for (const auto* bias : {&expert.gate_bias, &expert.up_bias, &expert.down_bias})
    bytes += bias->size() * sizeof(float);
  return bytes;
}

}  // namespace

void Matrix::load(std::int64_t row, Operand& operand) const {
  const auto cols = static_cast<std::int64_t>(operand.elements.size());
  if (format == WeightFormat::kBf16)
    operand.unpack_bf16(&data[row * cols * 2]);
  else
    operand.unpack_nvfp4(&data[row * cols / 2], &sf[row * cols / kNvfp4Block], global_scale);
}

Weights::Weights(const Problem& problem, const ExpertSource& source) : problem_(problem) {
  ExpertScratch scratch;
  experts_.reserve(static_cast<std::size_t>(problem.experts));
  for (std::int64_t e = 0; e < problem.experts; ++e) {
    const ExpertView view = source.expert(e, scratch);
    check_expert(problem, e, view);
    experts_.push_back(copy(view, problem.activation_scale));
  }
  if (problem.shared.inter == 0) return;
  const ExpertView view = source.shared_expert(scratch);
  check_shared_expert(problem, view, source.shared_gate());
  shared_ = copy(view, problem.activation_scale);
  shared_gate_ = copy(source.shared_gate());
}

std::size_t Weights::bytes() const noexcept {
  std::size_t bytes = bytes_of(shared_) + shared_gate_.size() * sizeof(float);
  for (const Expert& expert : experts_) bytes += bytes_of(expert);
  return bytes;
}

}  // namespace megamoe::reference
