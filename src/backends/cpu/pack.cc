#include "backends/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "backends/cpu/pack_tiles.h"
#include "base/threads.h"
#include "megamoe/error.h"
#include "moe/check_expert.h"

namespace megamoe::cpu {
namespace {

void pack_bf16_rows(const MatrixView& matrix, const LaneRows& which, std::byte* panel) {
  for (std::int64_t r = 0; r < which.rows; ++r) {
    const std::byte* values = matrix.data + (which.first_row + r) * matrix.cols * 2;
    for (std::int64_t k = 0; k < matrix.cols; ++k)
      std::memcpy(panel + 2 * bf16_at(which.first_lane + r, k), values + 2 * k, 2);
  }
}

void pack_rows(const MatrixView& matrix, const LaneRows& which, std::byte* panel) {
  if (matrix.format == WeightFormat::kNvfp4)
    pack_nvfp4_rows(kernels(), matrix, which, panel);
  else
    pack_bf16_rows(matrix, which, panel);
}

void copy_bias(std::span<const float> bias, std::vector<float>& all, std::int64_t expert) {
  std::copy(bias.begin(), bias.end(), all.begin() + expert * static_cast<std::int64_t>(bias.size()));
}

void pack_expert(const ExpertView& view, std::int64_t expert, ExpertBank& bank) {
  std::byte* memory = bank.memory.bytes().data();
  for (std::int64_t group = 0; group < bank.gate_up_groups(); ++group) {
    std::byte* panel = memory + bank.gate_up_offset(expert, group);
    pack_rows(view.gate, {group * kPairLanes, kPairLanes, 0}, panel);
    pack_rows(view.up, {group * kPairLanes, kPairLanes, kPairLanes}, panel);
  }
  for (std::int64_t group = 0; group < bank.down_groups(); ++group) {
    const std::int64_t row = group * kLanes;
    pack_rows(view.down, {row, std::min(kLanes, bank.hidden - row), 0}, memory + bank.down_offset(expert, group));
  }

  const auto e = static_cast<std::size_t>(expert);
  const bool scaled = bank.weights == WeightFormat::kNvfp4;
  bank.gate_scale[e] = scaled ? view.gate.global_scale : 1.0f;
  bank.up_scale[e] = scaled ? view.up.global_scale : 1.0f;
  bank.down_scale[e] = scaled ? view.down.global_scale : 1.0f;
  copy_bias(view.gate_bias, bank.gate_bias, expert);
  copy_bias(view.up_bias, bank.up_bias, expert);
  copy_bias(view.down_bias, bank.down_bias, expert);
}

// Without panels.
ExpertBank empty_bank(const Problem& problem, std::int64_t inter, std::int64_t experts, WeightFormat weights,
                      ActivationFormat activations, bool has_bias) {
  ExpertBank bank{
      .hidden = problem.hidden, .inter = inter, .experts = experts, .weights = weights, .activations = activations};
  const auto count = static_cast<std::size_t>(experts);
  bank.gate_scale.resize(count);
  bank.up_scale.resize(count);
  bank.down_scale.resize(count);
  if (has_bias) {
    bank.gate_bias.resize(count * static_cast<std::size_t>(inter));
    bank.up_bias.resize(count * static_cast<std::size_t>(inter));
    bank.down_bias.resize(count * static_cast<std::size_t>(problem.hidden));
  }
  return bank;
}

ExpertBank routed_bank(const Problem& problem) {
  return empty_bank(problem, problem.inter, problem.experts, problem.weights, problem.activations, problem.has_bias);
}

ExpertBank shared_bank(const Problem& problem) {
  return empty_bank(problem, problem.shared.inter, 1, problem.shared.weights, shared_activations(problem), false);
}

std::size_t panel_bytes_of(const ExpertBank& bank) {
  return static_cast<std::size_t>(bank.experts * bank.expert_bytes());
}

void allocate_panels(ExpertBank& bank) {
  bank.memory = AlignedBuffer(panel_bytes_of(bank));
  bank.panels = bank.memory.bytes();
}

// Calls visit(name, array) for each array of numbers that the bank has, and it may fill them.
template <class Bank, class Visit>
void each_array(const std::string& prefix, Bank& bank, const Visit& visit) {
  const auto one = [&](const char* name, auto& array) {
    if (!array.empty()) visit(prefix + name, array);
  };
  one(".gate_scale", bank.gate_scale);
  one(".up_scale", bank.up_scale);
  one(".down_scale", bank.down_scale);
  one(".gate_bias", bank.gate_bias);
  one(".up_bias", bank.up_bias);
  one(".down_bias", bank.down_bias);
}

void add_sections(const std::string& prefix, const ExpertBank& bank, std::vector<Section>& out) {
  out.push_back({.name = prefix + ".panels", .bytes = bank.panels});
  each_array(prefix, bank, [&](std::string name, const std::vector<float>& array) {
    out.push_back({.name = std::move(name), .bytes = std::as_bytes(std::span(array))});
  });
}

void fill(std::vector<float>& array, const std::string& name, const SectionSource& source) {
  const std::span<const std::byte> bytes = source.section(name, array.size() * sizeof(float));
  std::memcpy(array.data(), bytes.data(), bytes.size());
}

void take_sections(const std::string& prefix, const SectionSource& source, ExpertBank& bank) {
  bank.panels = source.section(prefix + ".panels", panel_bytes_of(bank));
  each_array(prefix, bank, [&](const std::string& name, std::vector<float>& array) { fill(array, name, source); });
}

constexpr const char* kSharedGate = "shared.gate";

}  // namespace

CpuWeights::CpuWeights(const Problem& problem, const SectionSource& source)
    : problem_(problem), panels_owner_(source.owner()), routed_(routed_bank(problem)) {
  take_sections("routed", source, routed_);
  if (problem.shared.inter == 0) return;
  shared_ = shared_bank(problem);
  take_sections("shared", source, shared_);
  if (!problem.shared.gated) return;
  shared_gate_.resize(static_cast<std::size_t>(problem.hidden));
  fill(shared_gate_, kSharedGate, source);
}

std::vector<Section> CpuWeights::sections() const {
  std::vector<Section> all;
  add_sections("routed", routed_, all);
  if (problem_.shared.inter == 0) return all;
  add_sections("shared", shared_, all);
  if (problem_.shared.gated) all.push_back({.name = kSharedGate, .bytes = std::as_bytes(std::span(shared_gate_))});
  return all;
}

CpuWeights::CpuWeights(const Problem& problem, const ExpertSource& source, int threads)
    : problem_(problem), routed_(routed_bank(problem)) {
  allocate_panels(routed_);
  const Threads pool(threads);
  std::vector<ExpertScratch> scratch(static_cast<std::size_t>(pool.count()));
  pool.each(problem.experts, [&](std::int64_t expert, int worker) {
    const ExpertView view = source.expert(expert, scratch[static_cast<std::size_t>(worker)]);
    check_expert(problem, expert, view);
    pack_expert(view, expert, routed_);
  });
  if (problem.shared.inter == 0) return;
  shared_ = shared_bank(problem);
  allocate_panels(shared_);
  const ExpertView view = source.shared_expert(scratch.front());
  const std::span<const float> gate = source.shared_gate();
  check_shared_expert(problem, view, gate);
  pack_expert(view, 0, shared_);
  shared_gate_.assign(gate.begin(), gate.end());
}

}  // namespace megamoe::cpu
