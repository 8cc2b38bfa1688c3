// Which kernel a call takes; needs no device.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backends/cuda/plan/device_call.h"
#include "megamoe/error.h"

namespace megamoe::sm90::test {
namespace {

TEST(choose, more_tokens_never_go_back_to_a_kernel_that_fewer_left) {
  for (const char* text : {"h=1024 i=512 e=8 k=2 w=nvfp4 a=bf16", "h=1024 i=512 e=256 k=8 w=nvfp4 a=bf16",
                           "h=1024 i=512 e=1 k=1 w=nvfp4 a=bf16", "h=1024 i=512 e=8 k=2 w=bf16 a=bf16"}) {
    const Problem problem = parse_problem(text);
    std::vector<std::int32_t> taken;  // tiles' rows: kernels of as many rows differ in their grid alone
    for (std::int64_t tokens = 1; tokens <= 5000; ++tokens) {
      const std::int32_t rows = chosen_kernel(problem, tokens).max_rows;
      if (!taken.empty() && taken.back() == rows) continue;
      ASSERT_EQ(std::count(taken.begin(), taken.end(), rows), 0) << text << ", " << tokens << " tokens: " << rows;
      taken.push_back(rows);
    }
  }
}

// A kernel that nothing takes would only be compiled.
TEST(choose, every_kernel_is_taken_by_a_published_shape) {
  std::set<std::string_view> taken;
  for (const char* text : {"h=2048 i=768 e=128 k=8 w=nvfp4 a=bf16", "h=7168 i=2048 e=256 k=8 w=nvfp4 a=bf16",
                           "h=4096 i=2048 e=256 k=6 w=nvfp4 a=bf16", "h=7168 i=3072 e=384 k=6 w=nvfp4 a=bf16",
                           "h=2048 i=768 e=128 k=8 w=bf16 a=bf16"})
    for (std::int64_t tokens = 1; tokens <= 8192; tokens += 1 + tokens / 64)
      taken.insert(chosen_kernel(parse_problem(text), tokens).name);
  for (const Kernel& kernel : kernels()) EXPECT_EQ(taken.count(kernel.name), 1u) << kernel.name;
}

// Lists of tiles ascend (TileLists): an expert goes to the first that needs no more tiles for it than the last.
TEST(choose, companions_hold_fewer_and_more_rows_and_read_the_same_weights) {
  int with_few = 0, with_many = 0;
  for (const Kernel& kernel : kernels()) {
    SCOPED_TRACE(kernel.name);
    const GemmSizes sizes{
        .weights = kernel.weights, .hidden = 512, .inter = 512, .rows = 1000, .active = 4, .forced = &kernel};
    const Choice choice = choose(sizes);
    ASSERT_EQ(&choice.usual(), &kernel);
    for (std::size_t i = 0; i < choice.kernels.size(); ++i) {
      const Kernel* const one = choice.kernels[i];
      if (one == nullptr || i == kUsual) continue;
      EXPECT_EQ(one->max_rows < kernel.max_rows, i == kFew) << one->name;
      EXPECT_EQ(one->max_rows > kernel.max_rows, i == kMany) << one->name;
      EXPECT_EQ(one->weights, kernel.weights) << one->name;
      EXPECT_FALSE(one->streams || kernel.streams) << one->name;
    }
    with_few += choice.kernels[kFew] != nullptr;
    with_many += choice.kernels[kMany] != nullptr;
  }
  EXPECT_GT(with_few, 0);
  EXPECT_GT(with_many, 0);
}

// A plan's rings of gathered tiles are cut for its most tokens, and used by calls of all numbers up to there.
TEST(choose, what_is_kept_for_gathered_rows_is_enough_for_every_smaller_call) {
  constexpr int kMultiprocessors = 132;
  for (const WeightFormat weights : {WeightFormat::kNvfp4, WeightFormat::kBf16})
    for (const auto& [experts, top_k] : {std::pair{1, 1}, {8, 2}, {64, 6}, {256, 8}})
      for (const std::int64_t panels : {1, 12, 32}) {
        SCOPED_TRACE(std::to_string(experts) + " experts, " + std::to_string(panels) + " panels");
        std::int64_t fewer = 0;
        for (std::int64_t tokens = 1; tokens <= 9000; tokens += 1 + tokens / 256) {
          const GemmSizes sizes{.weights = weights,
                                .hidden = 512,
                                .inter = 512,
                                .rows = tokens * top_k,
                                .active = expected_active(experts, top_k, tokens)};
          const std::int64_t kept = most_gathered(sizes, true, panels, 512, experts, kMultiprocessors);
          EXPECT_GE(kept, fewer) << tokens << " tokens";
          EXPECT_GE(kept, gathered_elements(choose(sizes).kernels, panels, 512, sizes.rows, experts, kMultiprocessors))
              << tokens << " tokens";
          const Kernels alone{nullptr, &choose(sizes).usual(), nullptr};
          EXPECT_GE(most_gathered(sizes, false, panels, 512, experts, kMultiprocessors),
                    gathered_elements(alone, panels, 512, sizes.rows, experts, kMultiprocessors))
              << tokens << " tokens";
          fewer = kept;
        }
        EXPECT_GT(fewer, 0);
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
        EXPECT_EQ(&choice.usual(), weights == kernel.weights ? &kernel : &free.usual()) << kernel.name;
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
