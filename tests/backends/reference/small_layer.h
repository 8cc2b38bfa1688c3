// Layers of a few non-zero weights, whose results can be worked out by hand.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "megamoe/moe.h"

namespace megamoe::test {

// A matrix of zeros with some elements set. nvfp4: all block scales are `sf`; a value is one of the eight magnitudes.
struct SmallMatrix {
  SmallMatrix(WeightFormat format, std::int64_t rows, std::int64_t cols);

  void set(std::int64_t row, std::int64_t col, float value);
  MatrixView view() const;

  WeightFormat format;
  std::int64_t rows;
  std::int64_t cols;
  std::vector<std::byte> data;  // one byte in front: a checkpoint aligns nothing
  std::vector<std::byte> sf;
  float global_scale = 1.0f;
};

struct SmallExpert {
  SmallExpert(WeightFormat format, std::int64_t hidden, std::int64_t inter);
  ExpertView view() const;

  SmallMatrix gate, up, down;
  std::vector<float> gate_bias, up_bias, down_bias;
  float gate_up_input_scale = 0.0f;
  float down_input_scale = 0.0f;
};

// All experts are zero until set.
class SmallLayer : public ExpertSource {
 public:
  explicit SmallLayer(const Problem& problem);

  ExpertView expert(std::int64_t index, ExpertScratch& scratch) const override;
  ExpertView shared_expert(ExpertScratch& scratch) const override;
  std::span<const float> shared_gate() const override { return gate_vector; }

  Problem problem;
  std::vector<SmallExpert> experts;
  SmallExpert shared;
  std::vector<float> gate_vector;
};

// [tokens, hidden] of zeros; set(t, h, value) rounds to bf16.
struct SmallBatch {
  SmallBatch(const Problem& problem, std::int64_t tokens);
  void set(std::int64_t token, std::int64_t column, float value);

  std::int64_t tokens;
  std::int64_t hidden;
  std::vector<std::uint16_t> x;
  std::vector<std::int32_t> ids;  // [tokens, top_k], all dropped
  std::vector<float> weights;     // [tokens, top_k], all 1
};

// Runs on the reference backend, in a workspace and an output full of NaN, with the output f32 [tokens, hidden].
std::vector<float> run_reference(const SmallLayer& layer, const SmallBatch& batch,
                                 Intermediate* intermediate = nullptr);

}  // namespace megamoe::test
