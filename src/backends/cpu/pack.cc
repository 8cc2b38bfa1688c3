#include "backends/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/threads.h"
#include "megamoe/error.h"
#include "moe/check_expert.h"

namespace megamoe::cpu {
namespace {

// Both codes of a byte.
std::byte packed_pair(std::byte codes) { return ((codes & std::byte{0x77}) << 1) | ((codes >> 3) & std::byte{0x11}); }

// A row of codes into its lane. A block whose scale is zero gets zero codes: its stored scale is then of no matter.
void pack_nvfp4_row(const MatrixView& matrix, std::int64_t row, std::int64_t lane, std::byte* panel) {
  const std::int64_t k = matrix.cols;
  const std::byte* codes = matrix.data + row * (k / 2);
  const std::byte* scales = matrix.sf + row * (k / 16);
  for (std::int64_t block = 0; block < k; block += 16) {
    const auto sf = std::to_integer<std::uint8_t>(scales[block / 16]);
    if (sf > 0x7E)
      throw Error(Code::kInvalidArgument, "weights: block scale byte ", static_cast<int>(sf), " at row ", row,
                  ", element ", block, " is negative or NaN, accepted: 0x00 to 0x7E");
    if (sf == 0) continue;  // the buffer came zeroed
    panel[scale_byte(lane, block)] = std::byte{ue5m3_from_e4m3(sf)};
    // Canonical byte j holds elements 2j and 2j + 1; a packed byte holds elements i and i + 4.
    const std::byte* in = codes + block / 2;
    for (std::int64_t half = 0; half < 2; ++half, in += 4) {
      std::byte* out = panel + code_at(lane, block + 8 * half).byte;
      for (int pair = 0; pair < 2; ++pair) {
        const std::byte low = packed_pair(in[pair]);       // elements 2 pair, 2 pair + 1
        const std::byte high = packed_pair(in[pair + 2]);  // the same, four further
        out[2 * pair] = (low & std::byte{0x0F}) | (high << 4);
        out[2 * pair + 1] = (low >> 4) | (high & std::byte{0xF0});
      }
    }
  }
}

void pack_bf16_row(const MatrixView& matrix, std::int64_t row, std::int64_t lane, std::byte* panel) {
  const std::byte* values = matrix.data + row * matrix.cols * 2;
  for (std::int64_t k = 0; k < matrix.cols; ++k) std::memcpy(panel + 2 * bf16_at(lane, k), values + 2 * k, 2);
}

void pack_row(const MatrixView& matrix, std::int64_t row, std::int64_t lane, std::byte* panel) {
  if (matrix.format == WeightFormat::kNvfp4)
    pack_nvfp4_row(matrix, row, lane, panel);
  else
    pack_bf16_row(matrix, row, lane, panel);
}

void copy_bias(std::span<const float> bias, std::vector<float>& all, std::int64_t expert) {
  std::copy(bias.begin(), bias.end(), all.begin() + expert * static_cast<std::int64_t>(bias.size()));
}

void pack_expert(const ExpertView& view, std::int64_t expert, ExpertBank& bank) {
  for (std::int64_t row = 0; row < bank.inter; ++row) {
    std::byte* panel = bank.memory.bytes().data() + bank.gate_up_offset(expert, row / kPairLanes);
    pack_row(view.gate, row, row % kPairLanes, panel);
    pack_row(view.up, row, kPairLanes + row % kPairLanes, panel);
  }
  for (std::int64_t row = 0; row < bank.hidden; ++row)
    pack_row(view.down, row, row % kLanes, bank.memory.bytes().data() + bank.down_offset(expert, row / kLanes));

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
