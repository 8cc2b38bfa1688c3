// A problem as the test files write it: the words of parse_problem plus
//   t=N        tokens
//   route=R    how tokens choose experts (Route)
//   seed=N     of the random weights and inputs
// Files live in problems/; one problem a line, '#' starts a comment.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"

namespace megamoe::test {

enum class Route {
  kUniform,     // k different experts, at random
  kOne,         // every choice of every token is the last expert (duplicates within a token, too)
  kSkew,        // most tokens choose the first experts
  kEmpty,       // as uniform, but nobody chooses the middle expert
  kDropped,     // as uniform, but a third of the choices is -1
  kAllDropped,  // nothing but -1
  kPoisoned,    // as uniform, but every third token is poisoned
};

struct TestProblem {
  Problem problem;
  std::int64_t tokens = 0;
  Route route = Route::kUniform;
  std::uint64_t seed = 1;

  std::string to_string() const;  // parse_test_problem reads it back
};

void PrintTo(const TestProblem& test, std::ostream* out);  // GoogleTest's hook for its messages

TestProblem parse_test_problem(std::string_view text);

// All problems of problems/<file>, in order.
std::vector<TestProblem> read_problems(const std::string& file);

}  // namespace megamoe::test
