// A token's output does not depend on who else is in the batch: bit for bit, on every backend of the host.
//
// That is a promise of its own (engines batch as they like), and it makes every number of tokens cheap to test: the
// oracle judges the largest batch, and every smaller one must repeat its bits. A device chooses its tiles, and with
// them the order of sums, by the number of tokens: there the promise holds for any order of the same tokens, and the
// oracle judges every number of them.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/each_backend.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

constexpr std::int64_t kMost = 260;

class batch : public ::testing::TestWithParam<const char*> {};

TEST_P(batch, every_token_count_from_0_to_260_repeats_the_bits_of_the_largest_or_is_judged) {
  const Case whole = make_case(parse_test_problem(std::string("t=260 ") + GetParam()));
  const TwoStages stages(whole);
  for_each_backend(
      whole.test.problem,
      [&](std::string_view backend) {
        const Layer layer(whole, backend, kMost);
        const Result all = layer.run(whole, {.intermediate = true});
        stages.check(all, backend);
        for (std::int64_t tokens = 0; tokens < kMost; ++tokens) {
          const Case few = first_tokens(whole, tokens);
          const Result some = layer.run(few, {.intermediate = layer.on_device()});
          if (layer.on_device())
            TwoStages(few).check(some, backend, Trust::kJustBound);
          else
            ASSERT_TRUE(std::equal(some.bf16.begin(), some.bf16.end(), all.bf16.begin())) << tokens << " tokens";
          if (HasFailure()) return;
        }
      },
      CpuTargets::kBest);
}

TEST_P(batch, a_token_has_the_same_bits_wherever_it_stands_in_the_batch) {
  const Case whole = make_case(parse_test_problem(std::string("t=67 ") + GetParam()));
  const Case turned = rotated(whole, 29);
  const auto shift = static_cast<std::ptrdiff_t>(29 * whole.test.problem.hidden);
  for_each_backend(whole.test.problem, [&](std::string_view backend) {
    const Layer layer(whole, backend, whole.test.tokens);
    std::vector<float> want = layer.run(whole, {.f32 = true}).f32;
    std::rotate(want.begin(), want.begin() + shift, want.end());
    EXPECT_EQ(layer.run(turned, {.f32 = true}).f32, want);
  });
}

TEST_P(batch, a_token_alone_has_the_bits_of_the_token_in_a_batch_or_is_judged) {
  const Case whole = make_case(parse_test_problem(std::string("t=40 ") + GetParam()));
  const auto width = static_cast<std::ptrdiff_t>(whole.test.problem.hidden);
  for_each_backend(whole.test.problem, [&](std::string_view backend) {
    const Result all = run_case(whole, backend, {.f32 = true});
    const Layer alone(whole, backend, 1);
    for (std::int64_t t = 0; t < whole.test.tokens; ++t) {
      const Case token = one_token(whole, t);
      const Result one = alone.run(token, {.f32 = true, .intermediate = alone.on_device()});
      if (alone.on_device())
        TwoStages(token).check(one, backend, Trust::kJustBound);
      else
        ASSERT_TRUE(std::equal(one.f32.begin(), one.f32.end(), all.f32.begin() + t * width)) << "token " << t;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(formats, batch,
                         ::testing::Values("h=48 i=32 e=2 k=1 w=nvfp4 a=bf16", "h=48 i=32 e=2 k=1 w=nvfp4 a=nvfp4",
                                           "h=48 i=32 e=2 k=1 w=nvfp4 a=int8", "h=48 i=32 e=2 k=1 w=bf16 a=bf16",
                                           "h=80 i=16 e=3 k=2 w=nvfp4 a=int8 shared=32:nvfp4:gated"));

}  // namespace
}  // namespace megamoe::test
