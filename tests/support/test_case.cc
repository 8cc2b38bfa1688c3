#include "support/test_case.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace megamoe::test {
namespace {

// Root mean square of a uniformly drawn E2M1 code times a scale drawn from kScaleLow .. kScaleHigh.
constexpr double kNvfp4Rms = 2.93 * 2.1;
constexpr std::int64_t kScaleLow = 0x30, kScaleHigh = 0x48;  // 0.5 .. 4

OwnedExpert random_expert(const Problem& problem, WeightFormat format, std::int64_t inter, std::int64_t index,
                          Random& random) {
  // G comes out near gate_rms for x near 1, U ten times as large or as small: with a limit both clamps are passed.
  const double gate_rms =
      std::isinf(problem.activation.limit) ? 1.5 : 0.8 * static_cast<double>(problem.activation.limit);
  const double own = 1.0 + 0.1 * static_cast<double>(index % 7);
  const double up_rms = gate_rms * (index % 2 == 0 ? 10.0 : 0.1);
  const double per_row = 1.0 / std::sqrt(static_cast<double>(problem.hidden));

  OwnedExpert expert;
  expert.gate = random_matrix(format, inter, problem.hidden, own * gate_rms * per_row, random);
  expert.up = random_matrix(format, inter, problem.hidden, own * up_rms * per_row, random);
  expert.down = random_matrix(format, problem.hidden, inter, own / std::sqrt(static_cast<double>(inter)), random);
  expert.gate_up_input_scale = static_cast<float>(5.0 * own / 2688.0);  // clips the largest tokens
  expert.down_input_scale = static_cast<float>(3.0 * own * gate_rms * up_rms / 2688.0);
  return expert;
}

std::vector<float> random_floats(std::int64_t count, double rms, Random& random) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(rms * random.normal());
  return values;
}

// k different experts for one token, out of [0, experts) without `never`.
void choose(std::int64_t experts, std::int64_t never, std::span<std::int32_t> ids, Random& random) {
  for (std::size_t j = 0; j < ids.size(); ++j) {
    do {
      ids[j] = static_cast<std::int32_t>(random.below(experts));
    } while (ids[j] == never || std::find(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(j), ids[j]) !=
                                    ids.begin() + static_cast<std::ptrdiff_t>(j));
  }
}

template <class T>
std::vector<T> slice(const std::vector<T>& all, std::int64_t begin, std::int64_t count, std::int64_t width) {
  const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin * width);
  return {first, first + static_cast<std::ptrdiff_t>(count * width)};
}

Case tokens_of(const Case& whole, std::int64_t begin, std::int64_t count) {
  Case part{.test = whole.test, .weights = whole.weights};
  part.test.tokens = count;
  part.x = slice(whole.x, begin, count, whole.test.problem.hidden);
  part.ids = slice(whole.ids, begin, count, whole.test.problem.top_k);
  part.topk_weights = slice(whole.topk_weights, begin, count, whole.test.problem.top_k);
  return part;
}

}  // namespace

std::uint16_t to_bf16(double value) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

double from_bf16(std::uint16_t bits) { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }

OwnedMatrix random_matrix(WeightFormat format, std::int64_t rows, std::int64_t cols, double rms, Random& random) {
  OwnedMatrix matrix = OwnedMatrix::zeros(format, rows, cols);
  if (format == WeightFormat::kBf16) {
    for (std::int64_t i = 0; i < rows * cols; ++i) matrix.set_bf16(0, i, to_bf16(rms * random.normal()));
    return matrix;
  }
  for (std::byte& both : matrix.data) both = static_cast<std::byte>(random.bits());
  for (std::byte& scale : matrix.sf) {
    const std::int64_t kind = random.below(64);
    scale = static_cast<std::byte>(kind == 0   ? 0
                                   : kind == 1 ? 1 + random.below(7)  // subnormal
                                               : kScaleLow + random.below(kScaleHigh - kScaleLow + 1));
  }
  matrix.global_scale = static_cast<float>(rms / kNvfp4Rms);
  return matrix;
}

std::vector<std::int32_t> make_ids(const TestProblem& test, Random& random) {
  const Problem& p = test.problem;
  const auto k = static_cast<std::size_t>(p.top_k);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(test.tokens) * k, -1);
  if (test.route == Route::kAllDropped) return ids;
  for (std::size_t t = 0; t < static_cast<std::size_t>(test.tokens); ++t) {
    const std::span<std::int32_t> own = std::span(ids).subspan(t * k, k);
    if (test.route == Route::kOne) {
      std::fill(own.begin(), own.end(), static_cast<std::int32_t>(p.experts - 1));
    } else if (test.route == Route::kSkew && random.below(8) != 0) {
      std::iota(own.begin(), own.end(), 0);
    } else {
      choose(p.experts, test.route == Route::kEmpty && p.experts > p.top_k ? p.experts / 2 : -1, own, random);
    }
    if (test.route == Route::kDropped)
      for (std::int32_t& id : own)
        if (random.below(3) == 0) id = -1;
    if (test.route == Route::kPoisoned && t % 3 == 1) std::fill(own.begin(), own.end(), -2);
  }
  return ids;
}

Case make_case(const TestProblem& test) {
  const Problem& p = test.problem;
  Random random(test.seed);
  Case result{.test = test};
  for (std::int64_t e = 0; e < p.experts; ++e) {
    OwnedExpert expert = random_expert(p, p.weights, p.inter, e, random);
    if (p.has_bias) {
      expert.gate_bias = random_floats(p.inter, 0.5, random);
      expert.up_bias = random_floats(p.inter, 0.5, random);
      expert.down_bias = random_floats(p.hidden, 0.5, random);
    }
    result.weights.experts.push_back(std::move(expert));
  }
  if (p.shared.inter > 0) {
    result.weights.shared = random_expert(p, p.shared.weights, p.shared.inter, p.experts, random);
    if (p.shared.gated)
      result.weights.gate_vector = random_floats(p.hidden, 1.0 / std::sqrt(static_cast<double>(p.hidden)), random);
  }
  constexpr double kTokenSizes[3] = {1.0, 0.25, 4.0};
  for (std::int64_t t = 0; t < test.tokens; ++t)
    for (std::int64_t c = 0; c < p.hidden; ++c) result.x.push_back(to_bf16(kTokenSizes[t % 3] * random.normal()));
  result.ids = make_ids(test, random);
  for (std::size_t i = 0; i < result.ids.size(); ++i)
    result.topk_weights.push_back(random.below(32) == 0 ? 0.0f : static_cast<float>(0.05 + 0.6 * random.uniform()));
  return result;
}

Case first_tokens(const Case& whole, std::int64_t tokens) { return tokens_of(whole, 0, tokens); }

Case one_token(const Case& whole, std::int64_t token) { return tokens_of(whole, token, 1); }

Case rotated(Case whole, std::int64_t first) {
  const auto turn = [first](auto& values, std::int64_t width) {
    std::rotate(values.begin(), values.begin() + first * width, values.end());
  };
  turn(whole.x, whole.test.problem.hidden);
  turn(whole.ids, whole.test.problem.top_k);
  turn(whole.topk_weights, whole.test.problem.top_k);
  return whole;
}

}  // namespace megamoe::test
