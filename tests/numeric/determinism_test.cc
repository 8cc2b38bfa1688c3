// The same inputs give the same bits: whatever the number of threads, how often it runs, and who runs beside it.
#include <gtest/gtest.h>

#include <thread>

#include "support/each_backend.h"
#include "support/run_case.h"

namespace megamoe::test {
namespace {

class determinism : public ::testing::TestWithParam<const char*> {};

// On a device, where threads only prepare the weights, these are three layers of their own.
TEST_P(determinism, threads_1_to_4_give_the_same_bits) {
  const Case c = make_case(parse_test_problem(std::string("t=50 h=112 i=80 e=5 k=2 ") + GetParam()));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Result want = run_case(c, backend, {.f32 = true}, 1);
    for (const int threads : {2, 3, 4})
      EXPECT_EQ(run_case(c, backend, {.f32 = true}, threads).f32, want.f32) << threads;
  });
}

// Backend cpu cuts a GEMM into longer items for few threads (64 here, which are enough for two threads and not for
// three).
TEST_P(determinism, items_of_any_length_give_the_same_bits) {
  const Case c = make_case(parse_test_problem(std::string("t=24 h=528 i=272 e=32 k=8 ") + GetParam()));
  for_each_backend(
      c.test.problem,
      [&](std::string_view backend) {
        const Result want = run_case(c, backend, {.f32 = true}, 1);
        for (const int threads : {2, 3, 4})
          EXPECT_EQ(run_case(c, backend, {.f32 = true}, threads).f32, want.f32) << threads;
      },
      CpuTargets::kBest);
}

TEST_P(determinism, a_thousand_runs_give_the_same_bits) {
  const Case c = make_case(parse_test_problem(std::string("t=6 h=48 i=32 e=4 k=2 ") + GetParam()));
  for_each_backend(
      c.test.problem,
      [&](std::string_view backend) {
        const Layer layer(c, backend, c.test.tokens, 4);
        const Result want = layer.run(c);
        for (int i = 0; i < 1000; ++i)
          ASSERT_EQ(layer.run(c, {.poison = i % 2 == 0 ? Poison::kNan : Poison::k7F}).bf16, want.bf16) << "run " << i;
      },
      CpuTargets::kBest);
}

// One plan, several callers at once, each with its own workspace and output.
TEST_P(determinism, a_plan_serves_several_callers_at_once) {
  const Case c = make_case(parse_test_problem(std::string("t=20 h=64 i=48 e=4 k=2 ") + GetParam()));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Layer layer(c, backend, c.test.tokens, 2);
    const Result want = layer.run(c);
    std::vector<std::thread> callers;
    std::vector<int> different(3, 0);
    for (int& own : different)
      callers.emplace_back([&] {
        for (int i = 0; i < 20; ++i) own += layer.run(c).bf16 != want.bf16;
      });
    for (std::thread& caller : callers) caller.join();
    EXPECT_EQ(different, std::vector<int>(3, 0));
  });
}

INSTANTIATE_TEST_SUITE_P(formats, determinism,
                         ::testing::Values("w=nvfp4 a=bf16", "w=nvfp4 a=nvfp4", "w=nvfp4 a=int8",
                                           "w=nvfp4 a=int8 shared=48:nvfp4:gated topk=before"));

}  // namespace
}  // namespace megamoe::test
