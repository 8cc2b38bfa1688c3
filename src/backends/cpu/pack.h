// prepare: canonical experts into the layout of packed_layout.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "backends/cpu/aligned_buffer.h"
#include "backends/cpu/packed_layout.h"
#include "megamoe/moe.h"

namespace megamoe::cpu {

// Experts of one shape. One expert's memory is its gate|up panels, then its down panels, both in group order.
struct ExpertBank {
  std::int64_t hidden = 0;
  std::int64_t inter = 0;
  std::int64_t experts = 0;
  WeightFormat weights = WeightFormat::kNvfp4;
  ActivationFormat activations = ActivationFormat::kBf16;
  AlignedBuffer memory;
  std::vector<float> gate_scale, up_scale, down_scale;  // [experts] global scales
  std::vector<float> gate_bias, up_bias;                // [experts, inter], or empty
  std::vector<float> down_bias;                         // [experts, hidden], or empty

  std::int64_t gate_up_groups() const { return inter / kPairLanes; }
  std::int64_t down_groups() const { return ceil_div(hidden, kLanes); }
  std::int64_t gate_up_panel_bytes() const { return panel_bytes(weights, hidden); }
  std::int64_t down_panel_bytes() const { return panel_bytes(weights, inter); }
  std::int64_t expert_bytes() const {
    return gate_up_groups() * gate_up_panel_bytes() + down_groups() * down_panel_bytes();
  }
  std::byte* gate_up_panel(std::int64_t expert, std::int64_t group) const {
    return memory.bytes().data() + expert * expert_bytes() + group * gate_up_panel_bytes();
  }
  std::byte* down_panel(std::int64_t expert, std::int64_t group) const {
    return gate_up_panel(expert, gate_up_groups()) + group * down_panel_bytes();
  }
};

class CpuWeights : public PreparedWeights {
 public:
  // Packs experts in parallel; each thread holds at most one expert's conversion memory. Throws kInvalidArgument for
  // what check_expert refuses, and for a block scale that is negative or NaN.
  CpuWeights(const Problem& problem, const ExpertSource& source, int threads);

  std::string_view backend() const noexcept override { return "cpu"; }
  const Problem& problem() const noexcept override { return problem_; }
  std::size_t bytes() const noexcept override { return routed_.memory.bytes().size() + shared_.memory.bytes().size(); }

  const ExpertBank& routed() const { return routed_; }
  const ExpertBank& shared() const { return shared_; }  // no experts where the problem has none
  const std::vector<float>& shared_gate() const { return shared_gate_; }

 private:
  Problem problem_;
  ExpertBank routed_;
  ExpertBank shared_;
  std::vector<float> shared_gate_;
};

}  // namespace megamoe::cpu
