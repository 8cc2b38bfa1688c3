#include "bench/synthetic.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/random_bits.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"

namespace megamoe::bench {
namespace {

constexpr float kCodeDeviation = 2.926f;  // root of the mean square of the eight magnitudes
// Block scales 0.5 to 1.875: sixteen codes from 0x30 on.
constexpr std::uint8_t kFirstScale = 0x30;
constexpr std::uint8_t kScaleMask = 0x0F;
constexpr float kScaleDeviation = 1.12f;

std::int64_t matrix_bytes(WeightFormat format, std::int64_t rows, std::int64_t cols) {
  return format == WeightFormat::kBf16 ? rows * cols * 2 : rows * cols / 2 + rows * cols / 16;
}

// In parallel: one thread makes 2.3 GB/s, and the experts of a large layer are 14 GB. Isolated, so that a thread that
// waits here does not meanwhile begin another expert in the same scratch.
void fill_bytes(RandomBits& random, std::byte* to, std::int64_t count, std::uint64_t mask, std::uint64_t plus) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 19;  // bytes
  tbb::this_task_arena::isolate([&] {
    tbb::parallel_for(std::int64_t{0}, (count + kPiece - 1) / kPiece, [&](std::int64_t piece) {
      RandomBits own = random;
      own.skip(static_cast<std::uint64_t>(piece * kPiece / 8));
      for (std::int64_t i = piece * kPiece; i < std::min(count, (piece + 1) * kPiece); i += 8) {
        const std::uint64_t word = (own.next() & mask) + plus;
        std::memcpy(to + i, &word, static_cast<std::size_t>(std::min<std::int64_t>(8, count - i)));
      }
    });
  });
  random.skip(static_cast<std::uint64_t>((count + 7) / 8));
}

constexpr std::uint64_t every_byte(std::uint8_t value) { return 0x0101010101010101u * value; }

// Fills one matrix at `to` and moves `to` behind it.
MatrixView fill_matrix(RandomBits& random, WeightFormat format, std::int64_t rows, std::int64_t cols, std::byte*& to) {
  MatrixView view{.format = format, .rows = rows, .cols = cols, .data = to};
  const float deviation = 1.0f / std::sqrt(static_cast<float>(cols));
  if (format == WeightFormat::kBf16) {
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      const std::uint16_t bits = bf16_from_float(random.normal() * deviation);
      std::memcpy(to + 2 * i, &bits, sizeof(bits));
    }
    to += rows * cols * 2;
    return view;
  }
  fill_bytes(random, to, rows * cols / 2, ~std::uint64_t{0}, 0);
  to += rows * cols / 2;
  view.sf = to;
  fill_bytes(random, to, rows * cols / 16, every_byte(kScaleMask), every_byte(kFirstScale));
  to += rows * cols / 16;
  view.global_scale = deviation / (kCodeDeviation * kScaleDeviation) * (0.5f + random.uniform());
  return view;
}

void fill_bias(RandomBits& random, std::span<float> to) {
  for (float& value : to) value = 0.25f * random.normal();
}

ExpertView fill_expert(RandomBits random, WeightFormat format, std::int64_t hidden, std::int64_t inter, bool bias,
                       ExpertScratch& scratch) {
  scratch.bytes.resize(static_cast<std::size_t>(3 * matrix_bytes(format, inter, hidden)));
  std::byte* to = scratch.bytes.data();
  ExpertView view;
  view.gate = fill_matrix(random, format, inter, hidden, to);
  view.up = fill_matrix(random, format, inter, hidden, to);
  view.down = fill_matrix(random, format, hidden, inter, to);
  if (bias) {
    const auto h = static_cast<std::size_t>(hidden);
    const auto i = static_cast<std::size_t>(inter);
    scratch.floats.resize(2 * i + h);
    const std::span<float> all(scratch.floats);
    fill_bias(random, all);
    view.gate_bias = all.subspan(0, i);
    view.up_bias = all.subspan(i, i);
    view.down_bias = all.subspan(2 * i, h);
  }
  // Inputs lie within 3.5 and the intermediate within about 4, so that no static scale clips.
  view.gate_up_input_scale = 4.0f / 2688.0f;
  view.down_input_scale = 4.0f / 2688.0f;
  return view;
}

constexpr std::uint64_t kExpertStride = 0xD1B54A32D192ED03u;  // odd: keeps the seeds of experts apart

}  // namespace

SyntheticSource::SyntheticSource(const Problem& problem, std::uint64_t seed) : problem_(problem), seed_(seed) {
  validate(problem);
  if (problem.shared.inter == 0 || !problem.shared.gated) return;
  RandomBits random(seed);
  shared_gate_.resize(static_cast<std::size_t>(problem.hidden));
  for (float& value : shared_gate_) value = random.normal() / std::sqrt(static_cast<float>(problem.hidden));
}

ExpertView SyntheticSource::expert(std::int64_t index, ExpertScratch& scratch) const {
  return fill_expert(RandomBits(seed_ + kExpertStride * static_cast<std::uint64_t>(index + 1)), problem_.weights,
                     problem_.hidden, problem_.inter, problem_.has_bias, scratch);
}

ExpertView SyntheticSource::shared_expert(ExpertScratch& scratch) const {
  return fill_expert(RandomBits(seed_ - kExpertStride), problem_.shared.weights, problem_.hidden, problem_.shared.inter,
                     false, scratch);
}

std::int64_t active_experts(const Problem& problem, std::span<const std::int32_t> topk_ids) {
  std::vector<char> seen(static_cast<std::size_t>(problem.experts));
  for (const std::int32_t id : topk_ids)
    if (id >= 0) seen[static_cast<std::size_t>(id)] = 1;
  return std::count(seen.begin(), seen.end(), 1);
}

std::int64_t expert_bytes(const Problem& problem) {
  return 3 * matrix_bytes(problem.weights, problem.inter, problem.hidden);
}

double read_bytes(const Problem& problem, std::span<const std::int32_t> topk_ids, std::int64_t tokens) {
  const std::int64_t routed = active_experts(problem, topk_ids) * expert_bytes(problem);
  const std::int64_t shared =
      tokens == 0 ? 0 : 3 * matrix_bytes(problem.shared.weights, problem.shared.inter, problem.hidden);
  return static_cast<double>(routed + shared);
}

double token_bytes(const Problem& problem, std::int64_t tokens) {
  const auto values = static_cast<double>(tokens * problem.hidden);
  const auto choices = static_cast<double>(tokens * problem.top_k);
  return 2 * values * sizeof(std::uint16_t) + choices * (sizeof(std::int32_t) + sizeof(float));
}

double layer_flops(const Problem& problem, std::span<const std::int32_t> topk_ids, std::int64_t tokens) {
  const auto rows = std::count_if(topk_ids.begin(), topk_ids.end(), [](std::int32_t id) { return id >= 0; });
  const double per_hidden = static_cast<double>(rows) * static_cast<double>(problem.inter) +
                            static_cast<double>(tokens) * static_cast<double>(problem.shared.inter);
  return 2.0 * 3.0 * static_cast<double>(problem.hidden) * per_hidden;
}

}  // namespace megamoe::bench
