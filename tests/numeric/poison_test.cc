// What lies in the workspace and in the output before a run must not show in the result.
#include <gtest/gtest.h>

#include <cmath>

#include "support/each_backend.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

class poison : public ::testing::TestWithParam<const char*> {};

TEST_P(poison, no_pattern_changes_a_bit) {
  const Case c = make_case(parse_test_problem(GetParam()));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Layer layer(c, backend, c.test.tokens + 3);  // a plan for more than comes: rows past the last stay poisoned
    const Result first = layer.run(c, {.poison = Poison::k7F, .f32 = true});
    for (const float value : first.f32) ASSERT_FALSE(std::isnan(value));
    for (const Poison pattern : {Poison::kFF, Poison::kNan})
      EXPECT_EQ(layer.run(c, {.poison = pattern, .f32 = true}).f32, first.f32)
          << std::hex << static_cast<std::uint32_t>(pattern);
  });
}

INSTANTIATE_TEST_SUITE_P(problems, poison,
                         ::testing::Values("t=9 h=80 i=80 e=3 k=2 w=nvfp4 a=bf16",
                                           "t=9 h=80 i=80 e=3 k=2 w=nvfp4 a=nvfp4",
                                           "t=9 h=80 i=80 e=3 k=2 w=nvfp4 a=int8",
                                           "t=9 h=80 i=80 e=3 k=2 w=bf16 a=int8",
                                           "t=9 route=dropped h=48 i=112 e=5 k=3 w=nvfp4 a=nvfp4 shared=48:nvfp4:gated",
                                           "t=1 h=48 i=112 e=5 k=3 w=nvfp4 a=int8 shared=48:bf16",
                                           "t=9 route=all_dropped h=48 i=112 e=5 k=3 w=nvfp4 a=int8",
                                           "t=33 route=one h=16 i=16 e=2 k=2 w=nvfp4 a=nvfp4"));

}  // namespace
}  // namespace megamoe::test
