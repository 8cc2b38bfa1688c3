#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/routing.h"

namespace megamoe {
namespace {

std::vector<std::uint16_t> bf16(const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (const float v : values) bits.push_back(bf16_from_float(v));
  return bits;
}

TEST(router_logits, by_hand) {
  std::vector<float> logits(4);
  router_logits({}, bf16({1, 2, 3, -1, 0, 0.5f}), std::vector<float>{1, 10, 100, 0.25f, 0, 2}, {}, 3, logits);
  EXPECT_EQ(logits, (std::vector<float>{321, 6.25f, 49, 0.75f}));
  router_logits({}, bf16({1, 2, 3, -1, 0, 0.5f}), std::vector<float>{1, 10, 100, 0.25f, 0, 2},
                std::vector<float>{1000, -6}, 3, logits);
  EXPECT_EQ(logits, (std::vector<float>{1321, 0.25f, 1049, -5.25f}));
}

// Whichever of an implementation's partial sums the three terms fall into: in f32 the middle one is lost.
TEST(router_logits, sums_in_double) {
  const std::size_t hidden = 27;
  const std::vector<std::uint16_t> x = bf16(std::vector<float>(hidden, 1.0f));
  for (std::size_t a = 0; a < hidden; ++a) {
    for (std::size_t b = a + 1; b < hidden; ++b) {
      for (std::size_t c = b + 1; c < hidden; ++c) {
        std::vector<float> weight(hidden, 0.0f);
        weight[a] = 0x1p40f;
        weight[b] = 1.0f;
        weight[c] = -0x1p40f;
        std::vector<float> logits(1);
        router_logits({}, x, weight, {}, hidden, logits);
        ASSERT_EQ(logits[0], 1.0f) << a << ' ' << b << ' ' << c;
      }
    }
  }
}

TEST(router_logits, rounds_to_bf16_where_the_rule_says_so) {
  std::vector<float> logits(1);
  const std::vector<float> weight{1, 0x1p-8f, 0x1p-9f};  // 1 + 3 * 2^-9 lies beyond the tie between 1 and 1 + 2^-7
  router_logits({.round_logits_to_bf16 = true}, bf16({1, 1, 1}), weight, {}, 3, logits);
  EXPECT_EQ(logits[0], 1.0f + 0x1p-7f);
  router_logits({}, bf16({1, 1, 1}), weight, {}, 3, logits);
  EXPECT_EQ(logits[0], 1.0f + 0x1.8p-8f);
}

TEST(router_logits, any_number_of_tokens_and_experts) {
  std::mt19937 rng(3);
  std::uniform_int_distribution<int> draw(-8, 8);
  for (const std::size_t tokens : {0u, 1u, 15u, 16u, 17u, 40u}) {
    for (const std::size_t experts : {1u, 5u}) {
      const std::size_t hidden = 21;
      std::vector<float> x(tokens * hidden);
      std::vector<float> weight(experts * hidden);
      for (float& v : x) v = static_cast<float>(draw(rng));
      for (float& v : weight) v = static_cast<float>(draw(rng));
      std::vector<float> logits(tokens * experts);
      router_logits({}, bf16(x), weight, {}, hidden, logits);
      for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t e = 0; e < experts; ++e) {
          float sum = 0;  // small integers: exact
          for (std::size_t h = 0; h < hidden; ++h) sum += x[t * hidden + h] * weight[e * hidden + h];
          ASSERT_EQ(logits[t * experts + e], sum);
        }
      }
    }
  }
}

TEST(router_logits, refuses_sizes_that_do_not_fit) {
  const std::vector<std::uint16_t> x(6);
  const std::vector<float> weight(9);
  std::vector<float> logits(6);
  EXPECT_NO_THROW(router_logits({}, x, weight, {}, 3, logits));
  EXPECT_THROW(router_logits({}, x, weight, {}, 0, logits), Error);
  EXPECT_THROW(router_logits({}, x, weight, {}, 4, logits), Error);
  EXPECT_THROW(router_logits({}, x, weight, std::vector<float>(2), 3, logits), Error);
  EXPECT_THROW(router_logits({}, x, weight, {}, 3, std::span(logits).first(5)), Error);
}

}  // namespace
}  // namespace megamoe
