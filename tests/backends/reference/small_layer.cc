#include "backends/reference/small_layer.h"

#include <cstring>
#include <limits>

#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/routing.h"

namespace megamoe::test {

SmallMatrix::SmallMatrix(WeightFormat f, std::int64_t r, std::int64_t c) : format(f), rows(r), cols(c) {
  const bool is_bf16 = format == WeightFormat::kBf16;
  data.resize(1 + (is_bf16 ? rows * cols * 2 : rows * cols / 2));
  if (!is_bf16) sf.assign(rows * cols / 16, std::byte{e4m3_from_float(1.0f)});
}

void SmallMatrix::set(std::int64_t row, std::int64_t col, float value) {
  const std::int64_t at = row * cols + col;
  if (format == WeightFormat::kBf16) {
    const std::uint16_t bits = bf16_from_float(value);
    std::memcpy(&data[1 + 2 * at], &bits, 2);
    return;
  }
  const auto packed = static_cast<std::uint8_t>(data[1 + at / 2]);
  const std::uint8_t code = e2m1_from_float(value);
  data[1 + at / 2] =
      std::byte{at % 2 == 0 ? nvfp4_pack(code, nvfp4_odd_k(packed)) : nvfp4_pack(nvfp4_even_k(packed), code)};
}

MatrixView SmallMatrix::view() const {
  return {.format = format,
          .rows = rows,
          .cols = cols,
          .data = data.data() + 1,
          .sf = sf.empty() ? nullptr : sf.data(),
          .global_scale = global_scale};
}

SmallExpert::SmallExpert(WeightFormat format, std::int64_t hidden, std::int64_t inter)
    : gate(format, inter, hidden), up(format, inter, hidden), down(format, hidden, inter) {}

ExpertView SmallExpert::view() const {
  return {.gate = gate.view(),
          .up = up.view(),
          .down = down.view(),
          .gate_bias = gate_bias,
          .up_bias = up_bias,
          .down_bias = down_bias,
          .gate_up_input_scale = gate_up_input_scale,
          .down_input_scale = down_input_scale};
}

SmallLayer::SmallLayer(const Problem& p)
    : problem(p),
      experts(p.experts, SmallExpert(p.weights, p.hidden, p.inter)),
      shared(p.shared.weights, p.hidden, p.shared.inter),
      gate_vector(p.shared.gated ? p.hidden : 0) {
  if (!p.has_bias) return;
  for (SmallExpert& expert : experts) {
    expert.gate_bias.resize(p.inter);
    expert.up_bias.resize(p.inter);
    expert.down_bias.resize(p.hidden);
  }
}

ExpertView SmallLayer::expert(std::int64_t index, ExpertScratch& /*scratch*/) const { return experts[index].view(); }
ExpertView SmallLayer::shared_expert(ExpertScratch& /*scratch*/) const { return shared.view(); }

SmallBatch::SmallBatch(const Problem& problem, std::int64_t t)
    : tokens(t),
      hidden(problem.hidden),
      x(t * problem.hidden),
      ids(t * problem.top_k, kDroppedExpert),
      weights(t * problem.top_k, 1.0f) {}

void SmallBatch::set(std::int64_t token, std::int64_t column, float value) {
  x[token * hidden + column] = bf16_from_float(value);
}

std::vector<float> run_reference(const SmallLayer& layer, const SmallBatch& batch, Intermediate* intermediate) {
  const auto weights = prepare(layer.problem, layer, {.backend = "reference"});
  const Plan plan(weights, {.max_tokens = batch.tokens});
  std::vector<std::byte> workspace(plan.workspace_bytes() + 1, std::byte{0xFF});
  std::vector<float> output(batch.x.size(), std::numeric_limits<float>::quiet_NaN());
  RunArgs args;
  args.tokens = batch.tokens;
  args.x = batch.x;
  args.topk_ids = batch.ids;
  args.topk_weights = batch.weights;
  args.output_f32 = output;
  args.workspace = std::span(workspace).subspan(1);
  args.intermediate = intermediate;
  plan.run(args);
  return output;
}

}  // namespace megamoe::test
