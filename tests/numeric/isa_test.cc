// Whether MEGAMOE_ISA, by which `make test-isa` runs the suite once for each instruction set, is what runs.
#include <gtest/gtest.h>

#include <cctype>
#include <cstdlib>
#include <string>
#include <vector>

#include "megamoe/moe.h"
#include "support/each_backend.h"
#include "support/test_case.h"

namespace megamoe::test {
namespace {

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

// Instruction set of the plan that a test gets which asks for none.
std::string isa_in_use(const Case& c) {
  const auto weights = prepare(c.test.problem, c.weights, {.backend = "cpu", .threads = 1});
  const std::string plan = Plan(weights, {.max_tokens = c.test.tokens, .threads = 1}).describe();
  return plan.substr(0, plan.find(','));
}

TEST(isa, the_one_that_is_asked_for_is_the_one_that_runs) {
  const std::vector<std::string> sets = cpu_instruction_sets();
  if (sets.empty()) GTEST_SKIP() << "this build has no cpu backend";
  const Case c = make_case(parse_test_problem("t=3 h=64 i=48 e=4 k=2 w=nvfp4 a=int8"));
  const char* asked = std::getenv("MEGAMOE_ISA");
  const std::string wanted = asked == nullptr ? sets.front() : upper(asked);
  EXPECT_EQ(isa_in_use(c), "cpu: " + wanted);

  // Tests of every instruction set are then tests of this one.
  std::vector<std::string> visited;
  for_each_cpu_target([&](const std::string& target) {
    visited.push_back(target);
    EXPECT_EQ(isa_in_use(c), "cpu: " + target);
  });
  EXPECT_EQ(visited, asked == nullptr ? sets : std::vector<std::string>{wanted});
}

}  // namespace
}  // namespace megamoe::test
