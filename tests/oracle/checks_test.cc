// The comparison itself on trial: a correct result passes with an error below its bound, and each wrong one is found.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "oracle/check_intermediate.h"
#include "oracle/check_output.h"
#include "oracle/numbers.h"

namespace oracle {
namespace {

constexpr std::int64_t kTokens = 6, kHidden = 48, kInter = 32, kTopK = 2, kExperts = 3;

std::uint16_t bf16_bits(double value) {
  const float rounded = static_cast<float>(round_bf16(value));
  std::uint32_t bits = 0;
  std::memcpy(&bits, &rounded, 4);
  return static_cast<std::uint16_t>(bits >> 16);
}

// A layer with BF16 activations, its true intermediate rounded to BF16, and its true output rounded to BF16.
struct Fixture {
  std::vector<unsigned char> bytes;
  std::vector<std::uint16_t> x;
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  Layer layer{.hidden = kHidden, .inter = kInter, .top_k = kTopK};
  std::vector<std::uint16_t> h;
  std::vector<std::int64_t> row_of;
  std::vector<double> output;
  std::uint64_t state = 7;

  unsigned next() { return static_cast<unsigned>((state = state * 6364136223846793005u + 1442695040888963407u) >> 40); }

  Matrix matrix(std::int64_t rows, std::int64_t cols, std::size_t& at) {
    Matrix m{
        .rows = rows, .cols = cols, .data = &bytes[at], .sf = &bytes[at + static_cast<std::size_t>(rows * cols / 2)]};
    at += static_cast<std::size_t>(rows * cols / 2 + rows * cols / 16);
    m.global = 0.05 * (1 + static_cast<double>(at % 5));
    return m;
  }

  Batch batch() const { return {.tokens = kTokens, .x = x, .ids = ids, .weights = weights}; }
  Intermediate got() const {
    return {.routed = {.rows = kTokens * kTopK, .inter = kInter, .bf16 = h}, .shared = {}, .row_of = row_of};
  }
  Report intermediate() const { return check_intermediate(layer, batch(), gemm1(layer, batch()), got()); }
  Report sums() const { return check_output(layer, batch(), got(), OutputType::kBf16, output); }

  Fixture() {
    bytes.resize(static_cast<std::size_t>(kExperts * 3 * kHidden * kInter * 9 / 16));
    for (unsigned char& b : bytes) b = static_cast<unsigned char>(next());
    std::size_t at = 0;
    for (int e = 0; e < kExperts; ++e) {
      Expert expert;
      expert.gate = matrix(kInter, kHidden, at);
      expert.up = matrix(kInter, kHidden, at);
      expert.down = matrix(kHidden, kInter, at);
      layer.experts.push_back(expert);
    }
    for (int e = 0; e < kExperts; ++e)  // scales 1 .. 1.875
      for (const Matrix* m : {&layer.experts[e].gate, &layer.experts[e].up, &layer.experts[e].down})
        for (std::int64_t i = 0; i < m->rows * m->cols / 16; ++i)
          bytes[static_cast<std::size_t>(m->sf - bytes.data() + i)] = static_cast<unsigned char>(0x38 + next() % 8);
    for (std::int64_t i = 0; i < kTokens * kHidden; ++i) x.push_back(bf16_bits((next() % 2001 - 1000.0) / 500));
    for (std::int64_t t = 0; t < kTokens; ++t)
      for (std::int64_t j = 0; j < kTopK; ++j) {
        ids.push_back(static_cast<std::int32_t>((t + j) % kExperts));
        weights.push_back(j == 0 ? 0.7f : 0.05f);
      }
    row_of.resize(ids.size());
    std::int64_t row = 0;
    for (int e = 0; e < kExperts; ++e)
      for (std::size_t c = 0; c < ids.size(); ++c)
        if (ids[c] == e) row_of[c] = row++;
    const Expected expected = gemm1(layer, batch());
    h.resize(static_cast<std::size_t>(row * kInter));
    for (std::size_t c = 0; c < ids.size(); ++c)
      for (std::int64_t i = 0; i < kInter; ++i)
        h[static_cast<std::size_t>(row_of[c] * kInter + i)] =
            bf16_bits(expected.routed[c].values[static_cast<std::size_t>(i)].value);
    compute_output([](std::size_t) { return 1.0; });
  }

  // y of every choice times its weight times `factor`.
  void compute_output(const std::function<double(std::size_t choice)>& factor) {
    output.assign(kTokens * kHidden, 0.0);
    for (std::size_t c = 0; c < ids.size(); ++c) {
      const std::vector<double> down = decode(layer.experts[static_cast<std::size_t>(ids[c])].down);
      const std::vector<double> row = decode(got().routed, row_of[c]);
      for (std::size_t n = 0; n < kHidden; ++n)
        for (std::size_t i = 0; i < kInter; ++i)
          output[c / kTopK * kHidden + n] +=
              factor(c) * static_cast<double>(weights[c]) * row[i] * down[n * kInter + i];
    }
    for (double& value : output) value = round_bf16(value);
  }
};

TEST(oracle_checks, a_correct_result_passes) {
  const Fixture f;
  const Report codes = f.intermediate();
  EXPECT_EQ(codes.outside, 0) << codes.first;
  EXPECT_EQ(codes.elements, kTokens * kTopK * kInter);
  const Report sums = f.sums();
  EXPECT_EQ(sums.outside, 0) << sums.first;
  EXPECT_LE(sums.worst_share, 1.0);
  EXPECT_GT(sums.worst_share, 0.3) << "a bound this wide would hide errors";
  EXPECT_LT(10 * sums.median_bound, sums.median_reference);
}

TEST(oracle_checks, finds_wrong_intermediates) {
  {
    Fixture f;
    std::swap(f.layer.experts[1].gate, f.layer.experts[1].up);
    EXPECT_GT(f.intermediate().outside, 0) << "gate and up swapped";
  }
  {
    Fixture f;
    f.layer.experts[0].up.global *= 1.01;
    EXPECT_GT(f.intermediate().outside, 0) << "a global scale 1% off";
  }
  {
    Fixture f;
    f.h[5] = static_cast<std::uint16_t>(f.h[5] + 2);
    EXPECT_EQ(f.intermediate().outside, 1) << "one element off by 2 ulp";
  }
  {
    Fixture f;
    std::swap(f.row_of[0], f.row_of[2]);
    EXPECT_GT(f.intermediate().outside, 0) << "rows of two tokens swapped";
  }
}

TEST(oracle_checks, finds_wrong_outputs) {
  const std::vector<std::pair<const char*, std::function<void(Fixture&)>>> wrong = {
      {"all zero", [](Fixture& f) { std::fill(f.output.begin(), f.output.end(), 0.0); }},
      {"weakest expert dropped",
       [](Fixture& f) { f.compute_output([](std::size_t c) { return c % kTopK == 1 ? 0.0 : 1.0; }); }},
      {"weight applied twice",
       [](Fixture& f) { f.compute_output([&](std::size_t c) { return double{f.weights[c]}; }); }},
      {"1% too large", [](Fixture& f) { f.compute_output([](std::size_t) { return 1.01; }); }},
      {"last row zero", [](Fixture& f) { std::fill(f.output.end() - kHidden, f.output.end(), 0.0); }},
      {"wrong down matrix", [](Fixture& f) { std::swap(f.layer.experts[0].down, f.layer.experts[1].down); }},
      {"one element NaN", [](Fixture& f) { f.output[9] = std::nan(""); }},
      {"one element off by 2 ulp",
       [](Fixture& f) {
         double& value = *std::max_element(f.output.begin(), f.output.end());
         value = round_bf16(value * (1 + 0x1p-7)) + value * 0x1p-7;
       }},
  };
  for (const auto& [what, mutate] : wrong) {
    Fixture f;
    mutate(f);
    EXPECT_GT(f.sums().outside, 0) << what;
  }
}

TEST(oracle_checks, a_poisoned_token_must_be_all_nan) {
  Fixture f;
  f.ids[0] = -2;
  f.ids[1] = -2;
  EXPECT_EQ(f.sums().outside, kHidden);
  std::fill(f.output.begin(), f.output.begin() + kHidden, std::nan(""));
  EXPECT_EQ(f.sums().outside, 0) << f.sums().first;
}

}  // namespace
}  // namespace oracle
