// The reference's weights: canonical copies. A source gives one expert at a time and may reuse its memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backends/reference/operand.h"
#include "megamoe/moe.h"

namespace megamoe::reference {

struct Matrix {
  WeightFormat format = WeightFormat::kNvfp4;
  std::vector<std::byte> data;
  std::vector<std::byte> sf;
  float global_scale = 1.0f;

  // Row `row` into `operand`, which has the matrix' columns.
  void load(std::int64_t row, Operand& operand) const;
};

struct Expert {
  Matrix gate, up, down;
  std::vector<float> gate_bias, up_bias, down_bias;
  float gate_up_input_scale = 0.0f;  // 0: activations have a scale per token
  float down_input_scale = 0.0f;
};

class Weights : public PreparedWeights {
 public:
  Weights(const Problem& problem, const ExpertSource& source);

  std::string_view backend() const noexcept override { return "reference"; }
  const Problem& problem() const noexcept override { return problem_; }
  std::size_t bytes() const noexcept override;

  std::span<const Expert> experts() const { return experts_; }
  const Expert& shared() const { return shared_; }
  std::span<const float> shared_gate() const { return shared_gate_; }

 private:
  Problem problem_;
  std::vector<Expert> experts_;
  Expert shared_;
  std::vector<float> shared_gate_;  // [hidden], empty where nothing is gated
};

}  // namespace megamoe::reference
