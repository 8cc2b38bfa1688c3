// Experts that lie in memory, owned by the test that made them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "megamoe/moe.h"

namespace megamoe::test {

struct OwnedMatrix {
  WeightFormat format = WeightFormat::kNvfp4;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<std::byte> data{};
  std::vector<std::byte> sf{};
  float global_scale = 1.0f;

  static OwnedMatrix zeros(WeightFormat format, std::int64_t rows, std::int64_t cols);

  // nvfp4 only: one code, and the scale of the block that holds a column.
  void set_code(std::int64_t row, std::int64_t col, unsigned code);
  void set_scale(std::int64_t row, std::int64_t col, unsigned e4m3);
  void set_bf16(std::int64_t row, std::int64_t col, std::uint16_t bits);

  MatrixView view() const;
};

struct OwnedExpert {
  OwnedMatrix gate{}, up{}, down{};
  std::vector<float> gate_bias, up_bias, down_bias;
  float gate_up_input_scale = 0.0f;
  float down_input_scale = 0.0f;

  ExpertView view() const;
};

class MemorySource : public ExpertSource {
 public:
  std::vector<OwnedExpert> experts{};
  OwnedExpert shared;  // where the problem has one
  std::vector<float> gate_vector{};

  ExpertView expert(std::int64_t index, ExpertScratch& scratch) const override;
  ExpertView shared_expert(ExpertScratch& scratch) const override;
  std::span<const float> shared_gate() const override { return gate_vector; }
};

}  // namespace megamoe::test
