// Every option of the layer once, on numbers that can be worked out by hand. Gates are 24 or more where an exact result
// is wanted: there e^-g is below half an f32 step of 1, so silu(g) is g.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "backends/reference/small_layer.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/routing.h"

namespace megamoe::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

const Problem kProblem = parse_problem("h=32 i=16 e=3 k=2 w=bf16 a=bf16");

// One path through an expert: x[from] * gate and * up meet in h[at], and h[at] * down goes to out[to].
void set_path(SmallExpert& expert, int from, int at, int to, float gate, float up, float down) {
  expert.gate.set(at, from, gate);
  expert.up.set(at, from, up);
  expert.down.set(to, at, down);
}

// `values` where they are given, zero elsewhere.
struct Spot {
  int token, column;
  float value;
};
std::vector<float> zeros_but(const SmallBatch& batch, std::initializer_list<Spot> spots) {
  std::vector<float> out(batch.x.size(), 0.0f);
  for (const Spot& spot : spots) out[spot.token * batch.hidden + spot.column] = spot.value;
  return out;
}

TEST(reference, one_path_through_bf16) {
  SmallLayer layer(kProblem);
  set_path(layer.experts[1], 3, 5, 20, 2.0f, 0.125f, 0.5f);
  SmallBatch batch(kProblem, 1);
  batch.set(0, 3, 32.0f);
  batch.ids = {1, kDroppedExpert};
  batch.weights = {0.25f, 1.0f};
  // g = 64, u = 4, h = 256, y = 128
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 20, 32.0f}}));
}

TEST(reference, gate_and_up_keep_their_own_global_scales) {
  Problem problem = kProblem;
  problem.weights = WeightFormat::kNvfp4;
  SmallLayer layer(problem);
  set_path(layer.experts[2], 30, 15, 31, 6.0f, 0.5f, 1.5f);
  layer.experts[2].gate.global_scale = 0.5f;
  layer.experts[2].up.global_scale = 4.0f;
  layer.experts[2].down.global_scale = 0.125f;
  layer.experts[2].down.sf[31] = std::byte{e4m3_from_float(16.0f)};  // row 31 has one block
  SmallBatch batch(problem, 1);
  batch.set(0, 30, 16.0f);
  batch.ids = {2, kDroppedExpert};
  // g = 16 * 6 * 0.5 = 48, u = 16 * 0.5 * 4 = 32, h = 1536, y = 1536 * 1.5 * 16 * 0.125
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 31, 4608.0f}}));
}

// x and h are their own quantised values: 127 = 127 * 1 in int8, 24 = 6 * 4 in nvfp4 at static scale 1.
TEST(reference, every_weight_format_meets_every_activation_format) {
  for (const WeightFormat weights : {WeightFormat::kNvfp4, WeightFormat::kBf16}) {
    for (const ActivationFormat activations :
         {ActivationFormat::kBf16, ActivationFormat::kNvfp4, ActivationFormat::kInt8}) {
      for (const ActivationScale scale : {ActivationScale::kPerToken, ActivationScale::kStatic}) {
        Problem problem = kProblem;
        problem.weights = weights;
        problem.activations = activations;
        problem.activation_scale = scale;
        SmallLayer layer(problem);
        set_path(layer.experts[0], 17, 2, 9, 1.0f, 0.5f, 2.0f);
        for (SmallExpert& expert : layer.experts) expert.gate_up_input_scale = expert.down_input_scale = 1.0f;
        const float x = activations == ActivationFormat::kInt8 ? 127.0f : 24.0f;
        SmallBatch batch(problem, 1);
        batch.set(0, 17, x);
        batch.ids = {0, kDroppedExpert};
        const std::vector<float> got = run_reference(layer, batch);
        const float h = x * (0.5f * x);
        // A scale that is not a power of two may cost the last digits.
        EXPECT_NEAR(got[9], 2.0f * h, 2.0f * h * 0x1p-21f) << problem.to_string();
        for (int i = 0; i < 32; ++i) {
          if (i == 9) continue;
          EXPECT_EQ(got[i], 0.0f) << problem.to_string();
        }
      }
    }
  }
}

TEST(reference, static_scales_belong_to_the_expert) {
  Problem problem = kProblem;
  problem.activations = ActivationFormat::kNvfp4;
  problem.activation_scale = ActivationScale::kStatic;
  SmallLayer layer(problem);
  for (SmallExpert& expert : layer.experts) {
    set_path(expert, 0, 0, 0, 1.0f, 1.0f, 1.0f);
    expert.gate_up_input_scale = 1.0f;
    expert.down_input_scale = 1.0f;
  }
  layer.experts[1].gate_up_input_scale = 0x1p-7f;  // reaches 21 and no further: x saturates
  layer.experts[2].down_input_scale = 0x1p-4f;     // reaches 168 < 24 * 24
  SmallBatch batch(problem, 3);
  for (int t = 0; t < 3; ++t) {
    batch.set(t, 0, 24.0f);
    batch.ids[2 * t] = t;
  }
  // Expert 1: x = 21, h = 441 -> sf 72 (73.5), code 6.
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 0, 576.0f}, {1, 0, 432.0f}, {2, 0, 168.0f}}));
}

TEST(reference, biases_come_before_the_clamp_and_the_weight) {
  Problem problem = kProblem;
  problem.has_bias = true;
  problem.activation.limit = 32.0f;
  SmallLayer layer(problem);
  set_path(layer.experts[0], 0, 0, 1, 1.0f, -1.0f, 1.0f);
  layer.experts[0].gate_bias[0] = 8.0f;   // 30 + 8 -> 32
  layer.experts[0].up_bias[0] = -4.0f;    // -30 - 4 -> -32
  layer.experts[0].down_bias[1] = 24.0f;  // -1024 + 24
  layer.experts[0].down_bias[2] = 6.0f;
  SmallBatch batch(problem, 1);
  batch.set(0, 0, 30.0f);
  batch.ids = {0, kDroppedExpert};
  batch.weights = {0.5f, 1.0f};
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 1, -500.0f}, {0, 2, 3.0f}}));
}

TEST(reference, gate_has_no_lower_limit) {
  Problem problem = kProblem;
  problem.activation.limit = 1.0f;
  SmallLayer layer(problem);
  set_path(layer.experts[0], 0, 0, 0, -4.0f, 1.0f, 1.0f);
  SmallBatch batch(problem, 1);
  batch.set(0, 0, 1.0f);
  batch.ids = {0, kDroppedExpert};
  // silu(-4) * 1, not silu(-1)
  EXPECT_NEAR(run_reference(layer, batch)[0], -4.0 / (1.0 + std::exp(4.0)), 0x1p-11);
}

TEST(reference, gpt_oss_activation) {
  Problem problem = kProblem;
  problem.activation = {.kind = Activation::Kind::kSwigluOai, .limit = 7.0f, .alpha = 32.0f};
  SmallLayer layer(problem);
  set_path(layer.experts[0], 0, 0, 0, 3.0f, 2.0f, 1.0f);
  SmallBatch batch(problem, 2);
  batch.set(0, 0, 1.0f);
  batch.set(1, 0, 4.0f);
  batch.ids = {0, -1, 0, -1};
  // 3 * sigmoid(96) * (2 + 1) and, clamped, 7 * 1 * (7 + 1)
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 0, 9.0f}, {1, 0, 56.0f}}));
}

TEST(reference, weight_before_gemm2_enters_the_intermediate) {
  Problem problem = kProblem;
  problem.topk_weight = TopkWeightPlace::kBeforeGemm2;
  problem.has_bias = true;
  SmallLayer layer(problem);
  set_path(layer.experts[0], 0, 4, 0, 1.0f, 1.0f, 1.0f);
  layer.experts[0].down_bias[0] = 100.0f;  // weighted as it would be afterwards
  SmallBatch batch(problem, 1);
  batch.set(0, 0, 32.0f);
  batch.ids = {-1, 0};
  batch.weights = {kNan, 0.5f};
  Intermediate intermediate;
  EXPECT_EQ(run_reference(layer, batch, &intermediate), zeros_but(batch, {{0, 0, 562.0f}}));
  EXPECT_EQ(bf16_to_float(intermediate.routed.bf16[4]), 512.0f);
}

TEST(reference, combine_adds_in_ascending_choice) {
  Problem problem = kProblem;
  problem.top_k = 3;
  SmallLayer layer(problem);
  for (int e = 0; e < 3; ++e) set_path(layer.experts[e], 0, 0, 0, 32.0f, 1.0f, 1.0f);
  SmallBatch batch(problem, 2);
  batch.set(0, 0, 1.0f);
  batch.set(1, 0, 1.0f);
  batch.ids = {2, 1, 0, 2, 1, 0};
  batch.weights = {0x1p20f, 0x1p-5f, -0x1p20f, 0x1p20f, -0x1p20f, 0x1p-5f};
  // 2^25 + 1 is not an f32; 2^25 - 2^25 + 1 is.
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 0, 0.0f}, {1, 0, 1.0f}}));
}

TEST(reference, one_expert_twice_counts_twice) {
  SmallLayer layer(kProblem);
  set_path(layer.experts[1], 0, 0, 0, 1.0f, 1.0f, 1.0f);
  SmallBatch batch(kProblem, 1);
  batch.set(0, 0, 32.0f);
  batch.ids = {1, 1};
  batch.weights = {1.0f, 0.5f};
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 0, 1536.0f}}));
}

TEST(reference, shared_expert_is_added_for_every_token) {
  for (const WeightFormat format : {WeightFormat::kBf16, WeightFormat::kNvfp4}) {
    for (const bool gated : {false, true}) {
      Problem problem = kProblem;
      problem.activations = ActivationFormat::kNvfp4;
      problem.activation_scale = ActivationScale::kStatic;
      problem.shared = {.inter = 48, .weights = format, .gated = gated};
      SmallLayer layer(problem);
      for (SmallExpert& expert : layer.experts) expert.gate_up_input_scale = expert.down_input_scale = 1.0f;
      layer.shared.gate_up_input_scale = layer.shared.down_input_scale = 1.0f;
      set_path(layer.shared, 1, 47, 3, 2.0f, 1.0f, 1.0f);
      set_path(layer.experts[0], 1, 0, 3, 1.0f, 1.0f, 1.0f);
      if (gated) layer.gate_vector[16] = 1.0f;
      SmallBatch batch(problem, 2);
      batch.set(0, 1, 24.0f);
      batch.set(1, 1, 24.0f);
      batch.set(1, 16, 32.0f);  // another block of x; sigmoid(32) = 1 in f32; token 0 has sigmoid(0)
      batch.ids = {0, -1, -1, -1};
      const float first = gated ? 576.0f : 1152.0f;
      Intermediate intermediate;
      const std::vector<float> got = run_reference(layer, batch, &intermediate);
      EXPECT_EQ(got, zeros_but(batch, {{0, 3, 576.0f + first}, {1, 3, 1152.0f}})) << problem.to_string();
      EXPECT_EQ(intermediate.shared.rows, 2);
      EXPECT_EQ(intermediate.shared.inter, 48);
      EXPECT_EQ(intermediate.shared.format, shared_activations(problem));
      EXPECT_EQ(intermediate.shared.bf16.size(), format == WeightFormat::kBf16 ? 96u : 0u);
    }
  }
}

TEST(reference, dropped_choices_add_nothing_and_poisoned_tokens_are_nan) {
  SmallLayer layer(kProblem);
  set_path(layer.experts[0], 0, 0, 0, 1.0f, 1.0f, 1.0f);
  SmallBatch batch(kProblem, 4);
  for (int t = 0; t < 4; ++t) batch.set(t, 0, 32.0f);
  batch.set(1, 5, kNan);  // a token that goes nowhere
  batch.ids = {0, kDroppedExpert, kDroppedExpert, kDroppedExpert, kPoisonedExpert, kPoisonedExpert, kPoisonedExpert, 0};
  batch.weights = {1.0f, kNan, kInf, kNan, kNan, kNan, 0.0f, 1.0f};
  const std::vector<float> got = run_reference(layer, batch);
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(got[i], i == 0 ? 1024.0f : 0.0f);
    EXPECT_EQ(got[32 + i], 0.0f);
    EXPECT_TRUE(std::isnan(got[64 + i]));
    EXPECT_TRUE(std::isnan(got[96 + i]));
  }
}

TEST(reference, nan_in_x_surfaces_in_its_token_only) {
  for (const ActivationFormat activations :
       {ActivationFormat::kBf16, ActivationFormat::kNvfp4, ActivationFormat::kInt8}) {
    Problem problem = kProblem;
    problem.activations = activations;
    SmallLayer layer(problem);
    set_path(layer.experts[0], 0, 0, 0, 1.0f, 1.0f, 1.0f);
    SmallBatch batch(problem, 2);
    batch.set(0, 31, kNan);
    batch.ids = {0, -1, 0, -1};
    const std::vector<float> got = run_reference(layer, batch);
    for (int i = 0; i < 32; ++i) {
      EXPECT_TRUE(std::isnan(got[i]));
      EXPECT_EQ(got[32 + i], 0.0f);
    }
  }
}

TEST(reference, more_tokens_than_one_expert_takes_at_once) {
  for (const TopkWeightPlace place : {TopkWeightPlace::kAfterGemm2, TopkWeightPlace::kBeforeGemm2}) {
    Problem problem = kProblem;
    problem.topk_weight = place;
    SmallLayer layer(problem);
    for (int e = 0; e < 3; ++e) set_path(layer.experts[e], e, 0, e, 1.0f, 1.0f, 1.0f);
    SmallBatch batch(problem, 53);
    std::vector<float> want(batch.x.size(), 0.0f);
    for (int t = 0; t < 53; ++t) {
      const int e = t % 5 == 0 ? 2 : 1;
      const auto x = static_cast<float>(32 + t);
      const float weight = std::ldexp(1.0f, t % 7);  // a power of two: no rounding tells where it entered
      batch.set(t, e, x);
      batch.ids[2 * t + t % 2] = e;
      batch.weights[2 * t + t % 2] = weight;
      want[32 * t + e] = bf16_to_float(bf16_from_float(x * x)) * weight;
    }
    EXPECT_EQ(run_reference(layer, batch), want);
  }
}

// Three groups of 64, the last one short, and different scales in all nine blocks of 16.
TEST(reference, every_block_and_group_has_its_own_scale) {
  for (const ActivationFormat activations :
       {ActivationFormat::kBf16, ActivationFormat::kNvfp4, ActivationFormat::kInt8}) {
    Problem problem = kProblem;
    problem.hidden = problem.inter = 144;
    problem.weights = WeightFormat::kNvfp4;
    problem.activations = activations;
    problem.activation_scale = ActivationScale::kStatic;
    SmallLayer layer(problem);
    SmallExpert& expert = layer.experts[0];
    for (SmallExpert& each : layer.experts) each.gate_up_input_scale = each.down_input_scale = 1.0f;
    SmallBatch batch(problem, 1);
    batch.ids = {0, -1};
    float gate = 0.0f;
    for (int block = 0; block < 9; ++block) {
      const int column = 16 * block + block;  // another lane in each block
      const float scale = std::ldexp(1.0f, block % 3 - 1);
      // Its own amax: 6 * 2^n and 127 * 2^n are what the formats reach exactly.
      const float unit = activations == ActivationFormat::kInt8 ? 127.0f : 6.0f;
      const int group = activations == ActivationFormat::kInt8 ? block / 4 : block;
      const float x = std::ldexp(unit, group % 4);
      batch.set(0, column, x);
      expert.gate.set(7, column, 0.5f);
      expert.gate.sf[7 * 9 + block] = std::byte{e4m3_from_float(scale)};
      gate += x * 0.5f * scale;
    }
    expert.up.set(7, 0, 0.5f);
    expert.down.set(1, 7, 1.0f);
    const float x0 = bf16_to_float(batch.x[0]);
    const float h = gate * (x0 * 0.5f);
    const float got = run_reference(layer, batch)[1];
    if (activations == ActivationFormat::kBf16) {
      EXPECT_EQ(got, bf16_to_float(bf16_from_float(h)));
    } else if (activations == ActivationFormat::kNvfp4) {
      const float sf = e4m3_to_float(e4m3_from_float(h / 6.0f));
      EXPECT_EQ(got, e2m1_to_float(e2m1_from_float(h / sf)) * sf);
    } else {
      EXPECT_NEAR(got, h, h * 0x1p-22f);  // 127 * (h / 127)
    }
  }
}

TEST(reference, nibbles_are_low_first) {
  Problem problem = kProblem;
  problem.weights = WeightFormat::kNvfp4;
  SmallLayer layer(problem);
  set_path(layer.experts[0], 6, 0, 0, 1.0f, 1.0f, 1.0f);
  SmallBatch batch(problem, 2);
  batch.set(0, 6, 32.0f);
  batch.set(1, 7, 32.0f);
  batch.ids = {0, -1, 0, -1};
  EXPECT_EQ(run_reference(layer, batch), zeros_but(batch, {{0, 0, 1024.0f}}));
}

TEST(reference, hands_out_the_intermediate) {
  Problem problem = kProblem;
  problem.activations = ActivationFormat::kNvfp4;
  problem.activation_scale = ActivationScale::kStatic;
  SmallLayer layer(problem);
  for (SmallExpert& expert : layer.experts) {
    set_path(expert, 0, 3, 0, 1.0f, 1.0f, 1.0f);
    expert.gate_up_input_scale = expert.down_input_scale = 1.0f;
  }
  layer.experts[2].down_input_scale = 2.0f;
  SmallBatch batch(problem, 2);
  batch.set(0, 0, 24.0f);
  batch.set(1, 0, 24.0f);
  batch.ids = {2, 0, -1, 2};
  Intermediate got;
  run_reference(layer, batch, &got);
  EXPECT_EQ(got.row_begin, (std::vector<std::int64_t>{0, 1, 1, 3}));
  EXPECT_EQ(got.row_of, (std::vector<std::int64_t>{1, 0, -1, 2}));
  EXPECT_EQ(got.routed.rows, 3);
  EXPECT_EQ(got.routed.global_scale, (std::vector<float>{1.0f, 2.0f, 2.0f}));
  // h = 576 = 6 * 96 * 1 = 6 * 48 * 2, in element 3: the high nibble of byte 1
  EXPECT_EQ(got.routed.sf, (std::vector<std::uint8_t>{e4m3_from_float(96), e4m3_from_float(48), e4m3_from_float(48)}));
  ASSERT_EQ(got.routed.codes.size(), 3u * 8u);
  for (int i = 0; i < 24; ++i) EXPECT_EQ(got.routed.codes[i], i % 8 == 1 ? 0x70 : 0);
  EXPECT_TRUE(got.routed.bf16.empty() && got.routed.int8.empty() && got.shared.rows == 0);
}

TEST(reference, intermediate_and_output_are_rounded_once_to_bf16) {
  SmallLayer layer(kProblem);
  // h = 32 * (1 + 2^-7) * 1.0078125 ... = 32 * (1 + 2^-6 + 2^-14): just above a bf16, which has 8 digits
  set_path(layer.experts[0], 0, 0, 0, 1.0f + 0x1p-7f, 1.0f + 0x1p-7f, 1.0f);
  SmallBatch batch(kProblem, 1);
  batch.set(0, 0, 32.0f);
  batch.ids = {0, -1};
  batch.weights = {1.0f + 0x1p-8f, 1.0f};
  const float h = 1024.0f * (1.0f + 0x1p-6f);
  EXPECT_EQ(run_reference(layer, batch)[0], h * (1.0f + 0x1p-8f));  // exact in f32

  const Plan plan(prepare(kProblem, layer, {.backend = "reference"}), {.max_tokens = 4});
  std::vector<std::byte> workspace(plan.workspace_bytes());
  std::vector<std::uint16_t> output(32, 0xFFFF);
  plan.run({.tokens = 1,
            .x = batch.x,
            .topk_ids = batch.ids,
            .topk_weights = batch.weights,
            .output = output,
            .output_f32 = {},
            .workspace = workspace});
  EXPECT_EQ(output[0], bf16_from_float(h * (1.0f + 0x1p-8f)));
  for (int i = 1; i < 32; ++i) EXPECT_EQ(output[i], 0);
}

TEST(reference, no_tokens) {
  Problem problem = kProblem;
  problem.shared = {.inter = 16, .weights = WeightFormat::kBf16, .gated = true};
  const SmallLayer layer(problem);
  const SmallBatch batch(problem, 0);
  Intermediate intermediate;
  EXPECT_TRUE(run_reference(layer, batch, &intermediate).empty());
  EXPECT_EQ(intermediate.row_begin, (std::vector<std::int64_t>{0, 0, 0, 0}));
}

}  // namespace
}  // namespace megamoe::test
