// prepare: canonical experts into the layout of packed_layout.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "backends/cpu/aligned_buffer.h"
#include "backends/cpu/packed_layout.h"
#include "megamoe/moe.h"
#include "moe/backend.h"

namespace megamoe::cpu {

// Experts of one shape. One expert's memory is its gate|up panels, then its down panels, both in group order.
struct ExpertBank {
  std::int64_t hidden = 0;
  std::int64_t inter = 0;
  std::int64_t experts = 0;
  WeightFormat weights = WeightFormat::kNvfp4;
  ActivationFormat activations = ActivationFormat::kBf16;
  AlignedBuffer memory;                                 // of the panels; empty where a mapped file holds them
  std::span<const std::byte> panels;                    // of all experts
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
  std::int64_t gate_up_offset(std::int64_t expert, std::int64_t group) const {
    return expert * expert_bytes() + group * gate_up_panel_bytes();
  }
  std::int64_t down_offset(std::int64_t expert, std::int64_t group) const {
    return gate_up_offset(expert, gate_up_groups()) + group * down_panel_bytes();
  }
  const std::byte* gate_up_panel(std::int64_t expert, std::int64_t group) const {
    return panels.data() + gate_up_offset(expert, group);
  }
  const std::byte* down_panel(std::int64_t expert, std::int64_t group) const {
    return panels.data() + down_offset(expert, group);
  }
};

class CpuWeights : public PreparedWeights {
 public:
  // Packs experts in parallel; each thread holds at most one expert's conversion memory. Throws kInvalidArgument for
  // what check_expert refuses, and for a block scale that is negative or NaN.
  CpuWeights(const Problem& problem, const ExpertSource& source, int threads);
  // Panels stay where `source` has them; scales and biases are copied.
  CpuWeights(const Problem& problem, const SectionSource& source);

  std::string_view backend() const noexcept override { return "cpu"; }
  const Problem& problem() const noexcept override { return problem_; }
  std::size_t bytes() const noexcept override { return routed_.panels.size() + shared_.panels.size(); }

  const ExpertBank& routed() const { return routed_; }
  const ExpertBank& shared() const { return shared_; }  // no experts where the problem has none
  const std::vector<float>& shared_gate() const { return shared_gate_; }
  std::vector<Section> sections() const;

 private:
  Problem problem_;
  std::shared_ptr<const void> panels_owner_;  // where a file holds them
  ExpertBank routed_;
  ExpertBank shared_;
  std::vector<float> shared_gate_;
};

}  // namespace megamoe::cpu
