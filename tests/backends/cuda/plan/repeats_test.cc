// Every kernel, hundreds of times in a row, has the same bits: a missing barrier or fence shows as one run of many.
// Each kernel runs where the heuristic takes it, at the fewest and at the most tokens, and is forced where it takes it
// for no number of tokens of a shape. MEGAMOE_RERUNS says how often.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "backends/cuda/plan/device_call.h"

namespace megamoe::sm90::test {
namespace {

using megamoe::test::make_case;
using megamoe::test::parse_test_problem;

constexpr int kRunsOfAPoison = 50;

struct Range {
  const Kernel* kernel = nullptr;
  std::int64_t first = 0, last = 0;  // tokens
};

// Which kernels calls of up to so many tokens take; for a small shape then those that none takes, for all of them.
constexpr std::int64_t kMostForced = 2000;
std::vector<Range> ranges(const Problem& problem, std::int64_t max_tokens) {
  std::vector<Range> all;
  for (std::int64_t tokens = 1; tokens <= max_tokens; ++tokens) {
    const Kernel& kernel = chosen_kernel(problem, tokens);
    if (all.empty() || all.back().kernel != &kernel) all.push_back({&kernel, tokens, tokens});
    all.back().last = tokens;
  }
  for (const Kernel& kernel : kernels())
    if (max_tokens <= kMostForced && kernel.weights == problem.weights &&
        std::none_of(all.begin(), all.end(), [&](const Range& range) { return range.kernel == &kernel; }))
      all.push_back({&kernel, 1, max_tokens});
  return all;
}

struct Sizes {
  const char* problem;
  std::int64_t max_tokens;  // enough for the kernel of the largest tiles
};
void PrintTo(const Sizes& sizes, std::ostream* out) { *out << sizes.problem; }

class repeats_of : public OnHopper, public ::testing::WithParamInterface<Sizes> {};

TEST_P(repeats_of, every_kernel_have_the_same_bits) {
  const std::int64_t max_tokens = GetParam().max_tokens;
  const Case c = make_case(parse_test_problem("t=" + std::to_string(max_tokens) + " " + GetParam().problem));
  const Problem& problem = c.test.problem;
  const auto weights = prepared(problem, c.weights);
  const CudaStream stream;
  const DeviceInputs inputs(c);
  GuardedBlock output(c.x.size() * sizeof(std::uint16_t), kDeviceAlignment);
  const Buffer want(MemoryKind::kCuda, c.x.size() * sizeof(std::uint16_t));
  for (const Range& range : ranges(problem, max_tokens)) {
    const ForcedKernel forced(*range.kernel);
    const Plan plan(weights, {.max_tokens = max_tokens});
    GuardedBlock workspace(plan.workspace_bytes());
    for (const std::int64_t tokens : {range.first, range.last}) {
      SCOPED_TRACE(std::string(range.kernel->name) + ", " + std::to_string(tokens) + " tokens");
      const std::int64_t elements = tokens * problem.hidden;
      Differences bits, canaries;
      RunArgs args = inputs.args(tokens);
      args.stream = stream.get();
      args.output = want.as<std::uint16_t>().first(static_cast<std::size_t>(elements));
      args.workspace = workspace.lay(plan.workspace_bytes(), 0x7F, stream.get());
      plan.run(args);
      const int runs = repeats();
      for (int run = 0; run < runs; ++run) {
        if (run % kRunsOfAPoison == 0)
          workspace.lay(plan.workspace_bytes(), kPoisons[run / kRunsOfAPoison % 3], stream.get());
        args.output = output.lay_array<std::uint16_t>(elements, kPoisons[run % 3], stream.get());
        plan.run(args);
        bits.compare(args.output.data(), want.data(), args.output.size_bytes(), run, stream.get());
        output.compare_canaries(canaries, run, stream.get());
        if (run % kRunsOfAPoison == kRunsOfAPoison - 1) workspace.compare_canaries(canaries, run, stream.get());
      }
      stream.wait();
      EXPECT_EQ(bits.first(problem.hidden), "") << "(comparison = run) not the bits of the first run";
      EXPECT_EQ(canaries.first(), "") << "(comparison = run) wrote outside its workspace or its output";
      if (range.first == range.last) break;
    }
  }
}

// Tails everywhere; and enough experts and panels that each block takes several items of work, up to batches so large
// that the plan keeps y in bf16 (2^24 elements).
constexpr Sizes kShapes[] = {
    {"h=272 i=176 e=16 k=2 w=nvfp4 a=bf16", 1800},   {"h=272 i=176 e=16 k=2 w=nvfp4 a=nvfp4", 1800},
    {"h=272 i=176 e=4 k=2 w=bf16 a=bf16", 100},      {"h=1024 i=512 e=32 k=4 w=nvfp4 a=bf16", 4200},
    {"h=1024 i=512 e=32 k=4 w=nvfp4 a=nvfp4", 4200}, {"h=1024 i=512 e=32 k=4 w=bf16 a=bf16", 300}};
INSTANTIATE_TEST_SUITE_P(shapes, repeats_of, ::testing::ValuesIn(kShapes));

}  // namespace
}  // namespace megamoe::sm90::test
