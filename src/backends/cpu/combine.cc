#include "backends/cpu/combine.h"

#include <algorithm>
#include <limits>

#include "megamoe/routing.h"

namespace megamoe::cpu {
namespace {

void store(const Kernels& kernels, const RunArgs& args, std::int64_t at, std::span<const float> sums) {
  if (!args.output_f32.empty())
    std::copy(sums.begin(), sums.end(), args.output_f32.begin() + at);
  else
    kernels.round_bf16(sums.data(), static_cast<std::int64_t>(sums.size()), args.output.data() + at);
}

}  // namespace

void combine(const Kernels& kernels, const CombineInputs& in, const RunArgs& args, std::int64_t token,
             std::int64_t begin) {
  float memory[kCombineColumns] = {};
  const std::int64_t columns = std::min(kCombineColumns, in.hidden - begin);
  const std::span<float> sums(memory, static_cast<std::size_t>(columns));
  const auto add = [&](float weight, std::span<const float> y, std::int64_t row) {
    kernels.axpy(weight, y.data() + row * in.hidden + begin, columns, sums.data());
  };

  bool poisoned = false;
  for (std::int64_t j = 0; j < in.top_k; ++j) {
    const auto choice = static_cast<std::size_t>(token * in.top_k + j);
    poisoned |= args.topk_ids[choice] == kPoisonedExpert;
    if (in.row_of[choice] >= 0) add(in.weights_are_in_rows ? 1.0f : args.topk_weights[choice], in.y, in.row_of[choice]);
  }
  if (!in.shared_y.empty())
    add(in.shared_gate.empty() ? 1.0f : in.shared_gate[static_cast<std::size_t>(token)], in.shared_y, token);
  if (poisoned) std::fill(sums.begin(), sums.end(), std::numeric_limits<float>::quiet_NaN());
  store(kernels, args, token * in.hidden + begin, sums);
}

}  // namespace megamoe::cpu
