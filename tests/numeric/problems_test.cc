// Every problem of problems/*.txt on every backend, under the two-stage oracle.
#include <gtest/gtest.h>

#include <algorithm>

#include "support/each_backend.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

class problems : public ::testing::TestWithParam<TestProblem> {};

// Mostly zero is right where most choices are dropped.
Trust trust_of(const TestProblem& test) {
  const bool sparse = test.route == Route::kAllDropped || test.route == Route::kPoisoned;
  return sparse ? Trust::kJustBound : Trust::kFull;
}

TEST_P(problems, two_stages_within_the_bound) {
  SCOPED_TRACE(GetParam().to_string());
  const Case c = make_case(GetParam());
  for_each_backend(c.test.problem, [&](std::string_view backend) { check_case(c, backend, trust_of(c.test)); });
}

std::string test_name(const ::testing::TestParamInfo<TestProblem>& info) {
  std::string name = std::to_string(info.index) + "_" + info.param.to_string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(edge, problems, ::testing::ValuesIn(read_problems("edge.txt")), test_name);
INSTANTIATE_TEST_SUITE_P(regression, problems, ::testing::ValuesIn(read_problems("regression.txt")), test_name);

std::int64_t eighth(std::int64_t size) { return (size / 8 + 15) / 16 * 16; }

// A model's layer at an eighth of its size, with a 32nd of its experts.
TestProblem reduced(TestProblem test) {
  Problem& p = test.problem;
  p.hidden = eighth(p.hidden);
  p.inter = eighth(p.inter);
  p.experts = std::max(p.experts / 32, p.top_k);
  p.shared.inter = eighth(p.shared.inter);
  test.tokens = 4;
  return test;
}

std::vector<TestProblem> reduced_models() {
  std::vector<TestProblem> all = read_problems("models.txt");
  std::transform(all.begin(), all.end(), all.begin(), reduced);
  return all;
}

INSTANTIATE_TEST_SUITE_P(models, problems, ::testing::ValuesIn(reduced_models()), test_name);

}  // namespace
}  // namespace megamoe::test
