// The same bits on every run, of layers large enough that a device's blocks race each other. MEGAMOE_RERUNS says how
// often (scripts/gpu_check.sh: 10000).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "support/each_backend.h"
#include "support/run_case.h"

namespace megamoe::test {
namespace {

int reruns() {
  const char* text = std::getenv("MEGAMOE_RERUNS");
  return text != nullptr ? std::atoi(text) : 10;
}

class reruns_of : public ::testing::TestWithParam<const char*> {};

TEST_P(reruns_of, a_layer_give_the_same_bits) {
  const Case c = make_case(parse_test_problem(GetParam()));
  for_each_backend(
      c.test.problem,
      [&](std::string_view backend) {
        if (backend == "reference") return;  // plain loops of one thread
        const Layer layer(c, backend, c.test.tokens);
        const std::vector<std::uint16_t> want = layer.run(c).bf16;
        for (int i = 1; i <= reruns(); ++i) {
          const std::vector<std::uint16_t> got = layer.run(c, {.poison = i % 2 == 0 ? Poison::kNan : Poison::k7F}).bf16;
          const auto at = std::mismatch(want.begin(), want.end(), got.begin()).first - want.begin();
          ASSERT_EQ(got, want) << "run " << i << ", element " << at << " first";
        }
      },
      CpuTargets::kBest);
}

// One token, a few rows an expert, many rows an expert, and sizes that fit no tile.
INSTANTIATE_TEST_SUITE_P(shapes, reruns_of,
                         ::testing::Values("t=1 h=1024 i=512 e=16 k=4 w=nvfp4 a=bf16",
                                           "t=16 h=512 i=256 e=8 k=2 w=nvfp4 a=nvfp4",
                                           "t=256 h=256 i=128 e=4 k=2 w=nvfp4 a=bf16 route=skew",
                                           "t=70 h=272 i=208 e=5 k=3 w=nvfp4 a=nvfp4 limit=7 shared=80:bf16:gated"));

}  // namespace
}  // namespace megamoe::test
