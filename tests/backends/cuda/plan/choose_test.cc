// Which kernel a call takes; needs no device.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "backends/cuda/plan/device_call.h"
#include "megamoe/error.h"

namespace megamoe::sm90::test {
namespace {

TEST(choose, more_tokens_never_take_a_kernel_of_smaller_tiles) {
  for (const char* text : {"h=1024 i=512 e=8 k=2 w=nvfp4 a=bf16", "h=1024 i=512 e=256 k=8 w=nvfp4 a=bf16",
                           "h=1024 i=512 e=1 k=1 w=nvfp4 a=bf16", "h=1024 i=512 e=8 k=2 w=bf16 a=bf16"}) {
    const Problem problem = parse_problem(text);
    std::int32_t before = 0;
    for (std::int64_t tokens = 1; tokens <= 5000; ++tokens) {
      const Kernel& kernel = chosen_kernel(problem, tokens);
      ASSERT_GE(kernel.max_rows, before) << text << ", " << tokens << " tokens: " << kernel.name;
      before = kernel.max_rows;
    }
  }
}

TEST(choose, the_environment_forces_a_kernel_on_the_weights_of_its_format) {
  for (const Kernel& kernel : kernels()) {
    const ForcedKernel forced(kernel);
    ASSERT_EQ(forced_kernel(), &kernel);
    for (const WeightFormat weights : {WeightFormat::kNvfp4, WeightFormat::kBf16})
      for (const std::int64_t rows : {1, 100, 10000}) {
        GemmSizes sizes{.weights = weights, .hidden = 512, .inter = 512, .rows = rows, .active = 4};
        const Choice free = choose(sizes);
        sizes.forced = forced_kernel();
        const Choice choice = choose(sizes);
        EXPECT_EQ(choice.gate_up, weights == kernel.weights ? &kernel : free.gate_up) << kernel.name;
        EXPECT_EQ(choice.down, choice.gate_up);
      }
  }
  EXPECT_EQ(forced_kernel(), nullptr);
}

TEST(choose, an_unknown_kernel_is_refused_with_the_known_ones) {
  setenv("MEGAMOE_SM90_KERNEL", "tiles 1x1", 1);
  try {
    forced_kernel();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    const std::string text = error.what();
    EXPECT_NE(text.find("tiles 1x1"), std::string::npos) << text;
    for (const Kernel& kernel : kernels()) EXPECT_NE(text.find(kernel.name), std::string::npos) << text;
  }
  unsetenv("MEGAMOE_SM90_KERNEL");
}

}  // namespace
}  // namespace megamoe::sm90::test
