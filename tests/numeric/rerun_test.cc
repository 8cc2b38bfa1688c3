// The line that a failed comparison prints runs this: one problem (or several, one a line), on one backend or on all.
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "support/each_backend.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

TEST(rerun, one_problem) {
  const char* text = std::getenv("MEGAMOE_PROBLEM");
  std::istringstream lines(text != nullptr ? text : "t=5 h=32 i=32 e=2 k=1 w=nvfp4 a=bf16");
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    SCOPED_TRACE(line);
    const Case c = make_case(parse_test_problem(line));
    for_each_backend(c.test.problem, [&](std::string_view name) { check_case(c, name); });
  }
}

TEST(rerun, problems_come_back_from_their_text) {
  for (const char* file : {"edge.txt", "regression.txt", "models.txt", "sanitizer.txt"})
    for (const TestProblem& test : read_problems(file)) {
      const TestProblem again = parse_test_problem(test.to_string());
      EXPECT_EQ(again.to_string(), test.to_string());
      EXPECT_EQ(again.problem, test.problem);
    }
}

}  // namespace
}  // namespace megamoe::test
