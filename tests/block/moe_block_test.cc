#include "megamoe/moe_block.h"

#include <gtest/gtest.h>

#include <cmath>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"

namespace megamoe {
namespace {

constexpr std::int64_t kHidden = 32;
constexpr std::int64_t kInter = 16;
constexpr std::int64_t kExperts = 3;

// Every weight of expert e is 0.125 * (e + 1), in bf16.
class EvenSource final : public ExpertSource {
 public:
  ExpertView expert(std::int64_t index, ExpertScratch& scratch) const override {
    const std::uint16_t bits = bf16_from_float(0.125f * static_cast<float>(index + 1));
    scratch.bytes.resize(kHidden * kInter * 2);
    for (std::size_t i = 0; i < scratch.bytes.size(); i += 2) {
      scratch.bytes[i] = static_cast<std::byte>(bits & 0xFF);
      scratch.bytes[i + 1] = static_cast<std::byte>(bits >> 8);
    }
    const MatrixView wide{.format = WeightFormat::kBf16, .rows = kInter, .cols = kHidden, .data = scratch.bytes.data()};
    const MatrixView tall{.format = WeightFormat::kBf16, .rows = kHidden, .cols = kInter, .data = scratch.bytes.data()};
    ExpertView view;
    view.gate = wide;
    view.up = wide;
    view.down = tall;
    return view;
  }
};

// The router gives expert e the logit e * x[0].
MoeLayer even_layer() {
  MoeLayer layer;
  layer.problem = parse_problem("h=32 i=16 e=3 k=1 w=bf16");
  layer.router_weight.resize(kExperts * kHidden);
  for (std::int64_t e = 0; e < kExperts; ++e)
    layer.router_weight[static_cast<std::size_t>(e * kHidden)] = static_cast<float>(e);
  layer.experts = std::make_shared<EvenSource>();
  return layer;
}

std::vector<std::uint16_t> ones(std::int64_t tokens) {
  return std::vector<std::uint16_t>(static_cast<std::size_t>(tokens * kHidden), bf16_from_float(1.0f));
}

TEST(moe_block, routes_and_computes_as_the_model_would) {
  MoeBlock block(even_layer(), {.max_tokens = 2});
  std::vector<std::uint16_t> x = ones(2);
  x[kHidden] = bf16_from_float(-1.0f);  // token 1 prefers expert 0
  const RoutedTokens routed = block.route(x);
  EXPECT_EQ(routed.topk_ids, (std::vector<std::int32_t>{2, 0}));
  EXPECT_EQ(routed.poisoned, 0);

  std::vector<float> output(x.size());
  block.run(x, routed, std::span(output));
  const auto expected = [](double sum, double weight) {
    const double product = sum * weight;
    const double h = bf16_to_float(bf16_from_float(static_cast<float>(product / (1 + std::exp(-product)) * product)));
    return kInter * h * weight;
  };
  for (std::size_t i = 0; i < kHidden; ++i) {
    EXPECT_NEAR(output[i], expected(32, 0.375), 1e-5 * expected(32, 0.375));
    EXPECT_NEAR(output[kHidden + i], expected(30, 0.125), 1e-5 * expected(30, 0.125));
  }
  std::vector<std::uint16_t> rounded(x.size());
  block.forward(x, rounded);
  for (std::size_t i = 0; i < rounded.size(); ++i) EXPECT_EQ(rounded[i], bf16_from_float(output[i]));
}

TEST(moe_block, computes_after_it_was_moved) {
  const std::vector<std::uint16_t> x = ones(2);
  std::vector<std::uint16_t> want(x.size()), got(x.size());
  auto first = std::make_unique<MoeBlock>(even_layer(), MoeBlockOptions{.max_tokens = 2});
  first->forward(x, want);
  MoeBlock moved(std::move(*first));
  first.reset();
  moved.forward(x, got);
  EXPECT_EQ(got, want);
  MoeBlock assigned(even_layer(), {.max_tokens = 1});
  assigned = std::move(moved);
  assigned.forward(x, got);
  EXPECT_EQ(got, want);
}

TEST(moe_block, counts_poisoned_tokens_and_gives_nan) {
  MoeBlock block(even_layer(), {.max_tokens = 2});
  std::vector<std::uint16_t> x = ones(2);
  x[0] = 0x7FC0;
  const RoutedTokens routed = block.route(x);
  EXPECT_EQ(routed.poisoned, 1);
  std::vector<float> output(x.size());
  block.run(x, routed, std::span(output));
  EXPECT_TRUE(std::isnan(output[0]));
  EXPECT_FALSE(std::isnan(output[kHidden]));
}

TEST(moe_block, refuses_states_of_another_width_and_more_tokens_than_planned) {
  MoeBlock block(even_layer(), {.max_tokens = 2});
  EXPECT_THROW(block.route(std::vector<std::uint16_t>(33)), Error);
  const std::vector<std::uint16_t> x = ones(3);
  std::vector<std::uint16_t> output(x.size());
  EXPECT_THROW(block.forward(x, output), Error);
}

}  // namespace
}  // namespace megamoe
