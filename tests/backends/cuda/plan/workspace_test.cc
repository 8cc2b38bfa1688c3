// A plan stays inside the workspace that it asked for, whatever the routing, and a plan for just the tokens that come
// has the bits of a plan for many more: arrays that overlap in the smaller workspace would show.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "backends/cuda/plan/device_call.h"

namespace megamoe::sm90::test {
namespace {

using megamoe::test::make_case;
using megamoe::test::parse_test_problem;

constexpr std::int64_t kLast = 300;
constexpr std::int64_t kMany = 4096;

struct Shape {
  std::int64_t experts;
  std::int64_t top_k;
};

// As many tiles as rows can make: one row an expert, and the rest to the first.
void spread_then_pile(Case& c) {
  for (std::size_t i = 0; i < c.ids.size(); ++i)
    c.ids[i] = i < c.weights.experts.size() ? static_cast<std::int32_t>(i) : 0;
}

void check_every_count(const std::string& problem, bool pile) {
  Case c = make_case(parse_test_problem("t=" + std::to_string(kLast) + " " + problem));
  if (pile) spread_then_pile(c);
  SCOPED_TRACE(problem + (pile ? ", all tiles there can be" : ", uniform"));
  const auto weights = prepared(c.test.problem, c.weights);
  const Plan for_many(weights, {.max_tokens = kMany});
  const CudaStream stream;
  const DeviceInputs inputs(c);
  GuardedBlock workspace(for_many.workspace_bytes());
  GuardedBlock outputs[2] = {GuardedBlock(c.x.size() * sizeof(std::uint16_t), kDeviceAlignment),
                             GuardedBlock(c.x.size() * sizeof(std::uint16_t), kDeviceAlignment)};
  Differences bits, canaries;
  for (std::int64_t tokens = 1; tokens <= kLast; ++tokens) {
    const Plan for_these(weights, {.max_tokens = tokens});
    EXPECT_LE(for_these.workspace_bytes(), for_many.workspace_bytes()) << tokens << " tokens";
    const Plan* const plans[] = {&for_these, &for_many};
    RunArgs args = inputs.args(tokens);
    args.stream = stream.get();
    for (int i = 0; i < 2; ++i) {
      args.output = outputs[i].lay_array<std::uint16_t>(tokens * c.test.problem.hidden, kPoisons[i], stream.get());
      args.workspace = workspace.lay(plans[i]->workspace_bytes(), kPoisons[(tokens + i) % 3], stream.get());
      plans[i]->run(args);
      workspace.compare_canaries(canaries, tokens, stream.get());
      outputs[i].compare_canaries(canaries, tokens, stream.get());
    }
    bits.compare(outputs[0].begin(), outputs[1].begin(), args.output.size_bytes(), tokens, stream.get());
  }
  stream.wait();
  EXPECT_EQ(canaries.first(), "") << "(comparison = number of tokens) wrote outside its workspace or its output";
  EXPECT_EQ(bits.first(c.test.problem.hidden), "")
      << "(comparison = number of tokens) the plan for just these tokens has other bits";
}

class workspace : public OnHopper, public ::testing::WithParamInterface<Shape> {};

TEST_P(workspace, is_large_enough_for_every_number_of_tokens) {
  const std::string shape =
      "h=64 i=32 e=" + std::to_string(GetParam().experts) + " k=" + std::to_string(GetParam().top_k);
  for (const bool pile : {true, false}) {
    check_every_count(shape + " w=nvfp4 a=bf16", pile);
    check_every_count(shape + " w=nvfp4 a=nvfp4", pile);
  }
}

std::string shape_name(const ::testing::TestParamInfo<Shape>& info) {
  return "e" + std::to_string(info.param.experts) + "_k" + std::to_string(info.param.top_k);
}
INSTANTIATE_TEST_SUITE_P(shapes, workspace,
                         ::testing::Values(Shape{1, 1}, Shape{2, 1}, Shape{2, 2}, Shape{3, 2}, Shape{7, 7}, Shape{8, 1},
                                           Shape{8, 3}, Shape{8, 8}, Shape{17, 4}, Shape{64, 5}, Shape{129, 6},
                                           Shape{257, 8}, Shape{384, 1}, Shape{600, 8}),
                         shape_name);

class workspace_of_a_layer : public OnHopper {};

TEST_F(workspace_of_a_layer, is_large_enough_with_all_that_it_can_have) {
  for (const bool pile : {true, false}) {
    check_every_count("h=64 i=32 e=8 k=2 w=nvfp4 a=nvfp4 scale=static shared=48:nvfp4:gated", pile);
    check_every_count("h=80 i=48 e=9 k=3 w=nvfp4 a=nvfp4 act=oai limit=7 bias topk=before shared=32:bf16", pile);
    check_every_count("h=64 i=32 e=5 k=2 w=bf16 a=bf16 shared=80:nvfp4", pile);
    // K of many stages: cut into parts for few tokens.
    check_every_count("h=1040 i=528 e=3 k=2 w=nvfp4 a=bf16 shared=528:nvfp4", pile);
  }
}

}  // namespace
}  // namespace megamoe::sm90::test
