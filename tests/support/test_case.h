// A whole call as data: weights, tokens and routing, all random and all different from each other.
#pragma once

#include <cstdint>
#include <vector>

#include "support/memory_source.h"
#include "support/random.h"
#include "support/test_problem.h"

namespace megamoe::test {

struct Case {
  TestProblem test{};
  MemorySource weights{};
  std::vector<std::uint16_t> x{};     // [tokens, hidden] bf16
  std::vector<std::int32_t> ids{};    // [tokens, top_k]
  std::vector<float> topk_weights{};  // [tokens, top_k]
};

// Random weights that tell mistakes apart: every expert, row and block differs, gate and up have global scales in ratio
// 10 (either way round), block scales include subnormals and zero, top-k weights are no powers of two and may be 0.
// Gate and up reach well past the activation's limit where there is one. Tokens differ in size by 16.
Case make_case(const TestProblem& test);

// The parts of it.
OwnedMatrix random_matrix(WeightFormat format, std::int64_t rows, std::int64_t cols, double rms, Random& random);
std::vector<std::int32_t> make_ids(const TestProblem& test, Random& random);

// Only the first `tokens` tokens of a case.
Case first_tokens(const Case& whole, std::int64_t tokens);
// Only one token of it.
Case one_token(const Case& whole, std::int64_t token);
// The tokens from `first` on, then those before it.
Case rotated(Case whole, std::int64_t first);

std::uint16_t to_bf16(double value);  // nearest, ties to even
double from_bf16(std::uint16_t bits);

}  // namespace megamoe::test
