// Prepared weights of the Hopper backend: packed matrices, scales and biases in device memory.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backends/cuda/sm90/gemm.h"
#include "megamoe/buffer.h"
#include "megamoe/moe.h"
#include "moe/backend.h"

namespace megamoe::sm90 {

// The matrices of experts of one shape.
class ExpertBank {
 public:
  ExpertBank() = default;
  ExpertBank(std::int64_t hidden, std::int64_t inter, std::int64_t experts, WeightFormat format, bool has_bias);

  WeightFormat format() const noexcept { return format_; }
  std::int64_t inter() const noexcept { return inter_; }
  std::int64_t experts() const noexcept { return experts_; }
  GemmWeights gemm(GemmKind kind) const;
  // [experts], device; of static activation scales.
  const float* input_scale(GemmKind kind) const { return scalars_.as<float>().data() + (3 + int(kind)) * experts_; }

  // One expert through `staging`, which holds at least staging_bytes(). One at a time.
  void store(std::int64_t expert, const ExpertView& view, Buffer& staging);
  std::size_t staging_bytes() const;
  // After the last store.
  void finish();

  // Instead of stores and finish: the sections that `add_sections` of such a bank gave, by their names.
  void load(const std::string& prefix, const SectionSource& source);
  void add_sections(const std::string& prefix, std::vector<Section>& out) const;

  std::size_t bytes() const noexcept { return gate_up_.size() + down_.size() + scalars_.size() + biases_.size(); }

 private:
  std::int64_t hidden_ = 0, inter_ = 0, experts_ = 0;
  WeightFormat format_ = WeightFormat::kNvfp4;
  Buffer gate_up_;  // [experts] packed matrices
  Buffer down_;
  Buffer scalars_;  // [5][experts]: global scales of gate, up, down; input scales of the two GEMMs
  Buffer biases_;   // gate [experts, inter], up, down [experts, hidden]; or empty
  std::vector<float> host_scalars_, host_biases_;  // until finish
};

class Sm90Weights : public PreparedWeights {
 public:
  Sm90Weights(const Problem& problem, const ExpertSource& source, int threads);
  Sm90Weights(const Problem& problem, const SectionSource& source);

  std::string_view backend() const noexcept override { return "cuda/sm90"; }
  const Problem& problem() const noexcept override { return problem_; }
  std::size_t bytes() const noexcept override { return routed_.bytes() + shared_.bytes() + shared_gate_.size(); }

  const ExpertBank& routed() const noexcept { return routed_; }
  const ExpertBank& shared() const noexcept { return shared_; }
  const float* shared_gate() const noexcept { return shared_gate_.as<float>().data(); }  // [hidden] or nullptr
  std::vector<Section> sections() const;

 private:
  Problem problem_;
  ExpertBank routed_;
  ExpertBank shared_;
  Buffer shared_gate_;
};

}  // namespace megamoe::sm90
