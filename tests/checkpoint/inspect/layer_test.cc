#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "checkpoint/fabricate.h"
#include "checkpoint/files/file_fixtures.h"
#include "megamoe/checkpoint.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/fp16.h"

namespace megamoe::test {
namespace {

float bf16_at(const std::string& bytes, std::size_t i) {
  return bf16_to_float(static_cast<std::uint16_t>(static_cast<unsigned char>(bytes[2 * i]) |
                                                  static_cast<unsigned char>(bytes[2 * i + 1]) << 8));
}

TEST(layer, plain_experts_are_views_of_the_right_tensors) {
  for (const std::string& type : fake_families()) {
    const TempDir dir;
    FakeModel model = fake_model(type);
    model.write(dir.path());
    const Checkpoint checkpoint = Checkpoint::open(dir.path());
    const MoeLayer layer = checkpoint.layer(checkpoint.layers()[0]);
    EXPECT_EQ(layer.problem.weights, WeightFormat::kBf16);
    EXPECT_EQ(layer.problem.hidden, kHidden);
    EXPECT_EQ(layer.problem.inter, kInter);
    EXPECT_EQ(layer.problem.experts, kExperts);
    validate(layer.problem);
    validate(layer.routing, layer.problem.experts, layer.problem.top_k);
    ExpertScratch scratch;
    for (int expert = 0; expert < kExperts; ++expert) {
      const ExpertView view = layer.experts->expert(expert, scratch);
      const std::array<const MatrixView*, 3> matrices{&view.gate, &view.up, &view.down};
      for (int which = 0; which < 3; ++which) {
        const FakeTensor& want = model.at(model.expert(expert, which) + ".weight");
        const MatrixView& got = *matrices[static_cast<std::size_t>(which)];
        EXPECT_EQ(Shape({got.rows, got.cols}), want.shape);
        EXPECT_EQ(std::memcmp(got.data, want.bytes.data(), want.bytes.size()), 0) << type << " " << want.name;
      }
    }
    EXPECT_TRUE(scratch.bytes.empty());
  }
}

TEST(layer, router_bias_and_shared_experts) {
  const TempDir dir;
  FakeModel model = fake_model("deepseek_v3");
  FakeTensor& bias = model.at("model.layers.1.mlp.gate.e_score_correction_bias");
  for (std::size_t i = 0; i < kExperts; ++i) bias.bytes.replace(4 * i, 4, float_bytes(static_cast<float>(i) + 12.5f));
  model.write(dir.path());
  const MoeLayer layer = Checkpoint::open(dir.path()).layer(1);
  ASSERT_EQ(layer.choice_bias.size(), static_cast<std::size_t>(kExperts));
  EXPECT_EQ(layer.choice_bias[7], 19.5f);
  EXPECT_TRUE(layer.router_bias.empty());
  const FakeTensor& router = model.at("model.layers.1.mlp.gate.weight");
  ASSERT_EQ(layer.router_weight.size(), static_cast<std::size_t>(kExperts * kHidden));
  for (std::size_t i = 0; i < layer.router_weight.size(); ++i)
    ASSERT_EQ(layer.router_weight[i], bf16_at(router.bytes, i));
  EXPECT_EQ(layer.problem.shared, (SharedExpert{.inter = 2 * kInter, .weights = WeightFormat::kBf16, .gated = false}));
  ExpertScratch scratch;
  const ExpertView shared = layer.experts->shared_expert(scratch);
  EXPECT_EQ(shared.down.rows, kHidden);
  EXPECT_EQ(std::memcmp(shared.up.data, model.at("model.layers.1.mlp.shared_experts.up_proj.weight").bytes.data(), 64),
            0);
}

TEST(layer, gated_shared_expert) {
  const TempDir dir;
  FakeModel model = fake_model("qwen2_moe");
  model.write(dir.path());
  const MoeLayer layer = Checkpoint::open(dir.path()).layer(1);
  EXPECT_TRUE(layer.problem.shared.gated);
  const std::span<const float> gate = layer.experts->shared_gate();
  ASSERT_EQ(gate.size(), static_cast<std::size_t>(kHidden));
  EXPECT_EQ(gate[3], bf16_at(model.at("model.layers.1.mlp.shared_expert_gate.weight").bytes, 3));
}

TEST(layer, f32_and_f16_are_rounded_to_nearest_even_bf16) {
  for (const DType dtype : {DType::kF32, DType::kF16}) {
    const TempDir dir;
    FakeModel model = fake_model("mixtral");
    FakeTensor& tensor = model.at(model.expert(2, 1) + ".weight");
    const std::size_t elements = tensor.bytes.size() / 2;
    std::vector<std::uint16_t> want;
    tensor.dtype = dtype;
    tensor.bytes.clear();
    for (std::size_t i = 0; i < elements; ++i) {
      const float value = std::sin(static_cast<float>(i)) * 0.1f;
      const std::uint16_t half = fp16_from_float(value);
      want.push_back(bf16_from_float(dtype == DType::kF32 ? value : fp16_to_float(half)));
      if (dtype == DType::kF32) tensor.bytes += float_bytes(value);
      if (dtype == DType::kF16) tensor.bytes.append({static_cast<char>(half & 0xff), static_cast<char>(half >> 8)});
    }
    model.write(dir.path());
    const MoeLayer layer = Checkpoint::open(dir.path()).layer(0);
    EXPECT_EQ(layer.notes.size(), 1u);
    ExpertScratch scratch;
    const ExpertView view = layer.experts->expert(2, scratch);
    EXPECT_EQ(std::memcmp(view.up.data, want.data(), want.size() * 2), 0);
    EXPECT_EQ(std::memcmp(view.gate.data, model.at(model.expert(2, 0) + ".weight").bytes.data(), 64), 0);
  }
}

TEST(layer, differing_gate_and_up_globals_are_both_kept) {
  const TempDir dir;
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  model.at(model.expert(1, 0) + ".weight_scale_2").bytes = float_bytes(0x1p-14f);
  model.at(model.expert(1, 1) + ".weight_scale_2").bytes = float_bytes(0x1p-17f);
  model.write(dir.path());
  const MoeLayer layer = Checkpoint::open(dir.path()).layer(1);
  ExpertScratch scratch;
  const ExpertView view = layer.experts->expert(1, scratch);
  EXPECT_EQ(view.gate.global_scale, 0x1p-14f);
  EXPECT_EQ(view.up.global_scale, 0x1p-17f);
}

TEST(layer, a_layer_outlives_its_checkpoint) {
  const TempDir dir;
  fake_quantised("glm4_moe", "compressed-tensors").write(dir.path());
  const MoeLayer layer = Checkpoint::open(dir.path()).layer(1);
  ExpertScratch scratch;
  EXPECT_NE(layer.experts->expert(kExperts - 1, scratch).down.data, nullptr);
  EXPECT_NE(sentence_of([&] { layer.experts->expert(kExperts, scratch); }), "");
}

TEST(layer, a_number_without_experts_is_refused) {
  const TempDir dir;
  fake_model("deepseek_v3").write(dir.path());
  const Checkpoint checkpoint = Checkpoint::open(dir.path());
  EXPECT_EQ(sentence_of([&] { checkpoint.layer(0); }), "layer: asked 0, accepted: the 1 layers with experts, 1 to 1");
}

TEST(layer, what_cannot_be_scaled_is_refused_before_use) {
  const TempDir dir;
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  const std::string name = model.expert(7, 2) + ".weight_scale";
  model.at(name).bytes.back() = '\x7f';
  model.write(dir.path());
  const std::string sentence = sentence_of([&] { Checkpoint::open(dir.path()).layer(1); });
  EXPECT_EQ(sentence, "model.safetensors: " + name + ": NaN at [63, 2] (1 in all), accepted: finite scales");
}

TEST(layer, non_finite_router_is_refused) {
  const TempDir dir;
  FakeModel model = fake_model("qwen3_moe");
  model.at("model.layers.1.mlp.gate.weight").bytes.replace(0, 2, "\xc0\x7f");
  model.write(dir.path());
  EXPECT_NE(sentence_of([&] { Checkpoint::open(dir.path()).layer(1); }).find("mlp.gate.weight: element 0: found nan"),
            std::string::npos);
}

}  // namespace
}  // namespace megamoe::test
