// Arrays of more than 2^31 elements and more than 2^32 bytes. Inputs are exact (support/exact_case.h), so that a
// backend of the host says the bits of a few tokens, and all others repeat them: every token of a large call is judged.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "backends/cuda/plan/device_call.h"
#include "backends/cuda/sm90/packed_weight.h"
#include "megamoe/formats/bf16.h"
#include "support/exact_case.h"
#include "support/run_case.h"

namespace megamoe::sm90::test {
namespace {

using megamoe::test::ExactTokens;
using megamoe::test::make_exact_case;
using megamoe::test::MemorySource;
using megamoe::test::run_case;

constexpr std::size_t kSpare = std::size_t{1} << 30;  // for the kernels themselves and what else lies there

// Why the device has no room, or empty.
std::string lacks(std::size_t bytes) {
  std::size_t free = 0;
  std::size_t all = 0;
  cuda_check(cudaMemGetInfo(&free, &all), "free memory");
  if (free >= bytes + kSpare) return {};
  return "needs " + std::to_string((bytes + kSpare) >> 20) + " MiB of free device memory, found " +
         std::to_string(free >> 20);
}

template <class T>
Buffer on_device(const std::vector<T>& values) {
  Buffer buffer(MemoryKind::kCuda, values.size() * sizeof(T));
  buffer.upload(std::as_bytes(std::span(values)));
  return buffer;
}

// `count` times the same values.
template <class T>
Buffer repeated(const std::vector<T>& values, std::int64_t count) {
  const std::size_t one = values.size() * sizeof(T);
  const std::size_t all = one * static_cast<std::size_t>(count);
  Buffer buffer(MemoryKind::kCuda, all);
  buffer.upload(std::as_bytes(std::span(values)));
  for (std::size_t have = one; have < all; have *= 2)  // doubles: whole periods behind whole periods
    cuda_check(cudaMemcpy(buffer.data() + have, buffer.data(), std::min(have, all - have), cudaMemcpyDeviceToDevice),
               "repeat");
  return buffer;
}

template <class T>
std::span<const T> const_span(const Buffer& buffer) {
  return buffer.as<const T>();
}

std::vector<std::uint16_t> on_host(const Case& c) { return run_case(c, host_backend(c.test.problem)).bf16; }

// The same where each routed row is rounded to bf16 before the sum over choices, as a plan does with so many of them.
std::vector<std::uint16_t> on_host_with_rounded_rows(const Case& c) {
  const auto top_k = static_cast<std::size_t>(c.test.problem.top_k);
  const auto hidden = static_cast<std::size_t>(c.test.problem.hidden);
  Case rows{.test = c.test, .weights = c.weights, .ids = c.ids};  // every choice a token of its own
  rows.test.problem.top_k = 1;
  rows.test.tokens = static_cast<std::int64_t>(c.ids.size());
  rows.topk_weights.assign(c.ids.size(), 1.0f);
  for (std::size_t choice = 0; choice < c.ids.size(); ++choice) {
    const auto from = c.x.begin() + static_cast<std::ptrdiff_t>(choice / top_k * hidden);
    rows.x.insert(rows.x.end(), from, from + static_cast<std::ptrdiff_t>(hidden));
  }
  const std::vector<std::uint16_t> y = on_host(rows);
  std::vector<std::uint16_t> output;
  for (std::size_t i = 0; i < c.x.size(); ++i) {
    float sum = 0.0f;
    for (std::size_t choice = i / hidden * top_k; choice < (i / hidden + 1) * top_k; ++choice)
      sum = std::fma(c.topk_weights[choice], bf16_to_float(y[choice * hidden + i % hidden]), sum);
    output.push_back(bf16_from_float(sum));
  }
  return output;
}

class large_offsets : public OnHopper {};

TEST_F(large_offsets, rows_of_more_than_2_31_elements) {
  constexpr std::int64_t kPeriod = 61;  // a row that wraps around 2^31 or 2^32 does not meet its own copy
  constexpr std::int64_t kPeriods = 656;
  constexpr std::int64_t kTokens = kPeriod * kPeriods;
  const Case c =
      make_exact_case("t=" + std::to_string(kPeriod) + " h=7168 i=64 e=8 k=8 w=nvfp4 a=bf16", ExactTokens::kDiffer);
  const Problem& problem = c.test.problem;
  static_assert(kTokens * 8 * 7168 > std::int64_t{1} << 31);
  const auto weights = prepared(problem, c.weights);
  const std::size_t output_bytes = static_cast<std::size_t>(kTokens * problem.hidden) * sizeof(std::uint16_t);
  // y is by far the largest array, whichever kernel.
  std::size_t most = 0;
  for (const Kernel& kernel : kernels()) {
    const ForcedKernel forced(kernel);
    most = std::max(most, Plan(weights, {.max_tokens = kTokens}).workspace_bytes());
  }
  if (const std::string reason = lacks(most + 2 * output_bytes); !reason.empty()) GTEST_SKIP() << reason;

  const Buffer want = on_device(on_host_with_rounded_rows(c));
  const Buffer x = repeated(c.x, kPeriods);
  const Buffer ids = repeated(c.ids, kPeriods);
  const Buffer topk_weights = repeated(c.topk_weights, kPeriods);
  const CudaStream stream;
  GuardedBlock output(output_bytes, kDeviceAlignment);
  GuardedBlock workspace(most);
  for (const Kernel& kernel : kernels()) {
    if (kernel.weights != problem.weights) continue;
    SCOPED_TRACE(kernel.name);
    const ForcedKernel forced(kernel);
    const Plan plan(weights, {.max_tokens = kTokens});
    RunArgs args;
    args.tokens = kTokens;
    args.x = const_span<std::uint16_t>(x);
    args.topk_ids = const_span<std::int32_t>(ids);
    args.topk_weights = const_span<float>(topk_weights);
    args.stream = stream.get();
    args.output = output.lay_array<std::uint16_t>(kTokens * problem.hidden, 0xFF, stream.get());
    args.workspace = workspace.lay(plan.workspace_bytes(), 0x7F, stream.get());
    plan.run(args);
    Differences bits, canaries;
    bits.compare(args.output.data(), want.data(), want.size(), 0, stream.get());
    bits.compare(output.begin() + want.size(), output.begin(), output_bytes - want.size(), 1, stream.get());
    output.compare_canaries(canaries, 0, stream.get());
    workspace.compare_canaries(canaries, 1, stream.get());
    stream.wait();
    EXPECT_EQ(bits.first(problem.hidden), "")
        << "comparison 0: with the host; 1: of a token with the one " << kPeriod << " before it";
    EXPECT_EQ(canaries.first(), "") << "comparison 0: wrote outside the output; 1: outside the workspace";
  }
}

// Many experts out of few: expert e has the weights of e % count.
class RepeatedExperts final : public ExpertSource {
 public:
  explicit RepeatedExperts(const MemorySource& few) : few_(few) {}
  ExpertView expert(std::int64_t index, ExpertScratch& scratch) const override {
    return few_.expert(index % static_cast<std::int64_t>(few_.experts.size()), scratch);
  }

 private:
  const MemorySource& few_;
};

TEST_F(large_offsets, weights_of_more_than_2_32_bytes) {
  constexpr std::int64_t kFew = 5;
  constexpr std::int64_t kExperts = 1100;
  const Case few =
      make_exact_case("t=24 h=7168 i=512 e=" + std::to_string(kFew) + " k=2 w=nvfp4 a=bf16", ExactTokens::kDiffer);
  Case many{.test = few.test, .x = few.x, .ids = few.ids, .topk_weights = few.topk_weights};
  many.test.problem.experts = kExperts;
  // The last experts, but for every fourth choice: the first.
  for (std::size_t i = 0; i < many.ids.size(); ++i)
    if (i % 4 != 0) many.ids[i] += static_cast<std::int32_t>(kExperts - kFew);
  static_assert(kExperts % kFew == 0);
  const Problem& problem = many.test.problem;
  const std::int64_t gate_up = matrix_bytes(problem.weights, 2 * problem.inter, problem.hidden);
  const std::int64_t down = matrix_bytes(problem.weights, problem.hidden, problem.inter);
  ASSERT_GT((kExperts - kFew) * gate_up, std::int64_t{1} << 32);
  ASSERT_GT((kExperts - kFew) * down, std::int64_t{1} << 31);
  if (const std::string reason = lacks(static_cast<std::size_t>(kExperts * (gate_up + down))); !reason.empty())
    GTEST_SKIP() << reason;

  const Buffer want = on_device(on_host(few));
  const auto weights = prepared(problem, RepeatedExperts(few.weights));
  const CudaStream stream;
  const DeviceInputs inputs(many);
  GuardedBlock output(want.size(), kDeviceAlignment);
  for (const Kernel& kernel : kernels()) {
    if (kernel.weights != problem.weights) continue;
    SCOPED_TRACE(kernel.name);
    const ForcedKernel forced(kernel);
    const Plan plan(weights, {.max_tokens = many.test.tokens});
    GuardedBlock workspace(plan.workspace_bytes());
    RunArgs args = inputs.args(many.test.tokens);
    args.stream = stream.get();
    args.output = output.lay_array<std::uint16_t>(many.test.tokens * problem.hidden, 0xFF, stream.get());
    args.workspace = workspace.lay(plan.workspace_bytes(), 0x7F, stream.get());
    plan.run(args);
    Differences bits;
    bits.compare(args.output.data(), want.data(), want.size(), 0, stream.get());
    stream.wait();
    EXPECT_EQ(bits.first(problem.hidden), "") << "not the bits of the host";
  }
}

}  // namespace
}  // namespace megamoe::sm90::test
