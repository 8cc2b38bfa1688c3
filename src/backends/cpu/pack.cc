#include "backends/cpu/pack.h"

#include <algorithm>
#include <cstring>

#include "base/threads.h"
#include "megamoe/error.h"
#include "moe/check_expert.h"

namespace megamoe::cpu {
namespace {

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
        const std::byte low = in[pair];       // elements 2 pair, 2 pair + 1
        const std::byte high = in[pair + 2];  // the same, four further
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
    std::byte* panel = bank.gate_up_panel(expert, row / kPairLanes);
    pack_row(view.gate, row, row % kPairLanes, panel);
    pack_row(view.up, row, kPairLanes + row % kPairLanes, panel);
  }
  for (std::int64_t row = 0; row < bank.hidden; ++row)
    pack_row(view.down, row, row % kLanes, bank.down_panel(expert, row / kLanes));

  const auto e = static_cast<std::size_t>(expert);
  const bool scaled = bank.weights == WeightFormat::kNvfp4;
  bank.gate_scale[e] = scaled ? view.gate.global_scale : 1.0f;
  bank.up_scale[e] = scaled ? view.up.global_scale : 1.0f;
  bank.down_scale[e] = scaled ? view.down.global_scale : 1.0f;
  copy_bias(view.gate_bias, bank.gate_bias, expert);
  copy_bias(view.up_bias, bank.up_bias, expert);
  copy_bias(view.down_bias, bank.down_bias, expert);
}

ExpertBank empty_bank(const Problem& problem, std::int64_t inter, std::int64_t experts, WeightFormat weights,
                      ActivationFormat activations, bool has_bias) {
  ExpertBank bank{
      .hidden = problem.hidden, .inter = inter, .experts = experts, .weights = weights, .activations = activations};
  const auto count = static_cast<std::size_t>(experts);
  bank.memory = AlignedBuffer(count * static_cast<std::size_t>(bank.expert_bytes()));
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

}  // namespace

CpuWeights::CpuWeights(const Problem& problem, const ExpertSource& source, int threads)
    : problem_(problem),
      routed_(
          empty_bank(problem, problem.inter, problem.experts, problem.weights, problem.activations, problem.has_bias)) {
  const Threads pool(threads);
  std::vector<ExpertScratch> scratch(static_cast<std::size_t>(pool.count()));
  pool.each(problem.experts, [&](std::int64_t expert, int worker) {
    const ExpertView view = source.expert(expert, scratch[static_cast<std::size_t>(worker)]);
    check_expert(problem, expert, view);
    pack_expert(view, expert, routed_);
  });
  if (problem.shared.inter == 0) return;
  shared_ = empty_bank(problem, problem.shared.inter, 1, problem.shared.weights, shared_activations(problem), false);
  const ExpertView view = source.shared_expert(scratch.front());
  const std::span<const float> gate = source.shared_gate();
  check_shared_expert(problem, view, gate);
  pack_expert(view, 0, shared_);
  shared_gate_.assign(gate.begin(), gate.end());
}

}  // namespace megamoe::cpu
