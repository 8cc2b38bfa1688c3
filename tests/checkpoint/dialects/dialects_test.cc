#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "checkpoint/dialects/dialect.h"
#include "checkpoint/fabricate.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/rewrite.h"
#include "megamoe/checkpoint.h"

namespace megamoe::test {
namespace {

TEST(module_patterns, names_globs_and_regexes) {
  ModulePatterns patterns;
  ASSERT_TRUE(patterns.add("lm_head"));
  ASSERT_TRUE(patterns.add("model.layers.3.mlp"));
  ASSERT_TRUE(patterns.add("model.layers.61*"));
  ASSERT_TRUE(patterns.add("*.attn.*"));
  ASSERT_TRUE(patterns.add("re:.*mlp\\.gate$"));
  for (const char* module : {"lm_head", "model.layers.3.mlp", "model.layers.3.mlp.experts.0.up_proj",
                             "model.layers.61.mlp", "model.layers.5.attn.q", "model.layers.5.mlp.gate"})
    EXPECT_TRUE(patterns.matches(module)) << module;
  for (const char* module : {"lm_head2", "my.lm_head", "model.layers.30.mlp", "model.layers.6.mlp", "attn.q",
                             "model.layers.5.mlp.gate_proj", ""})
    EXPECT_FALSE(patterns.matches(module)) << module;
}

TEST(module_patterns, a_regex_is_anchored_at_the_start_only) {
  ModulePatterns patterns;
  ASSERT_TRUE(patterns.add("re:model.layers.1"));
  EXPECT_TRUE(patterns.matches("model.layers.12.mlp"));
  EXPECT_FALSE(patterns.matches("x.model.layers.1"));
}

TEST(module_patterns, a_hostile_regex_costs_neither_time_nor_stack) {
  ModulePatterns patterns;
  ASSERT_TRUE(patterns.add("re:(a*)*(a*)*(a*)*b"));
  EXPECT_FALSE(patterns.matches(std::string(1000, 'a')));
  EXPECT_FALSE(patterns.matches(std::string(1'000'000, 'a')));
  EXPECT_FALSE(patterns.add("re:("));
  EXPECT_FALSE(patterns.add("re:" + std::string(100'000, 'a')));
}

// Opens a model and returns what is wrong with it.
std::string refusal(const FakeModel& model) {
  const TempDir dir;
  model.write(dir.path());
  return sentence_of([&] {
    const Checkpoint checkpoint = Checkpoint::open(dir.path());
    checkpoint.layer(checkpoint.layers()[0]);
  });
}

TEST(dialects, both_spellings_of_a_model_mean_the_same_bits) {
  for (const std::string& type : fake_families()) {
    const TempDir a, b;
    fake_quantised(type, "modelopt", true).write(a.path());
    fake_quantised(type, "compressed-tensors", true).write(b.path());
    const Checkpoint modelopt = Checkpoint::open(a.path());
    const Checkpoint compressed = Checkpoint::open(b.path());
    EXPECT_EQ(modelopt.dialect(), "modelopt");
    EXPECT_EQ(compressed.dialect(), "compressed-tensors");
    for (const std::int64_t index : modelopt.layers()) {
      const MoeLayer x = modelopt.layer(index), y = compressed.layer(index);
      EXPECT_EQ(x.problem, y.problem) << type;
      EXPECT_EQ(x.problem.weights, WeightFormat::kNvfp4);
      EXPECT_EQ(x.router_weight, y.router_weight);
      ExpertScratch s, t;
      for (std::int64_t expert = 0; expert < kExperts; ++expert) {
        const ExpertView v = x.experts->expert(expert, s), w = y.experts->expert(expert, t);
        EXPECT_EQ(v.gate_up_input_scale, w.gate_up_input_scale);
        EXPECT_EQ(v.gate_up_input_scale, 1.0f / 512);
        for (const auto matrix : {&ExpertView::gate, &ExpertView::up, &ExpertView::down}) {
          const MatrixView &m = v.*matrix, &n = w.*matrix;
          EXPECT_EQ(m.global_scale, n.global_scale);
          EXPECT_EQ(std::memcmp(m.data, n.data, static_cast<std::size_t>(m.rows * m.cols / 2)), 0);
          EXPECT_EQ(std::memcmp(m.sf, n.sf, static_cast<std::size_t>(m.rows * m.cols / 16)), 0);
        }
      }
    }
  }
}

TEST(dialects, scalars_of_either_shape_are_read) {
  for (const char* dialect : {"modelopt", "compressed-tensors"}) {
    FakeModel model = fake_quantised("qwen3_moe", dialect);
    for (FakeTensor& tensor : model.tensors)
      if (tensor.dtype == DType::kF32) tensor.shape = tensor.shape.rank() == 0 ? Shape{1} : Shape{};
    EXPECT_EQ(refusal(model), "");
  }
}

TEST(dialects, configs_that_disagree_are_refused) {
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  (*model.hf_quant)["quantization"]["quant_algo"] = "NVFP4";
  EXPECT_NE(refusal(model).find("quant_algo: found NVFP4 and W4A16_NVFP4"), std::string::npos);

  model = fake_quantised("qwen3_moe", "modelopt");
  (*model.hf_quant)["quantization"]["exclude_modules"].push_back("model.other");
  EXPECT_NE(refusal(model).find("model.other is excluded in one file only"), std::string::npos);

  model = fake_quantised("qwen3_moe", "modelopt");
  (*model.hf_quant)["quantization"]["group_size"] = 32;
  EXPECT_NE(refusal(model), "");

  model = fake_quantised("qwen3_moe", "compressed-tensors");
  model.hf_quant = fake_quantised("qwen3_moe", "modelopt").hf_quant;
  EXPECT_NE(refusal(model).find("hf_quant_config.json belongs to modelopt"), std::string::npos);
}

TEST(dialects, either_file_alone_is_enough_for_modelopt) {
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  model.config.erase("quantization_config");
  EXPECT_EQ(refusal(model), "");
  model = fake_quantised("qwen3_moe", "modelopt");
  model.hf_quant.reset();
  EXPECT_EQ(refusal(model), "");
}

TEST(dialects, config_and_names_must_agree) {
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  model.config["quantization_config"] = fake_quantised("qwen3_moe", "compressed-tensors").config["quantization_config"];
  model.hf_quant.reset();
  EXPECT_NE(refusal(model).find("a tensor of the dialect modelopt, but the config says compressed-tensors"),
            std::string::npos);
  model.config.erase("quantization_config");
  EXPECT_NE(refusal(model).find("but the config says plain"), std::string::npos);
}

TEST(dialects, mixed_precision_is_read_module_by_module) {
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  Json layers;
  layers[model.experts] = {{"quant_algo", "W4A16_NVFP4"}, {"group_size", 16}};
  layers["model.layers.0.self_attn.q_proj"] = {{"quant_algo", "FP8"}};
  for (Json* block : {&model.config["quantization_config"], &(*model.hf_quant)["quantization"]}) {
    (*block)["quant_algo"] = "MIXED_PRECISION";
    (*block)["quantized_layers"] = layers;
  }
  EXPECT_EQ(refusal(model), "");
  for (Json* block : {&model.config["quantization_config"], &(*model.hf_quant)["quantization"]})
    (*block)["quantized_layers"][model.experts]["quant_algo"] = "NVFP4_AWQ";
  EXPECT_NE(refusal(model).find("the config says NVFP4_AWQ"), std::string::npos);
}

TEST(dialects, other_quantisations_are_refused_by_name) {
  const auto with = [](const std::string& dialect, auto&& change) {
    FakeModel model = fake_quantised("qwen3_moe", dialect);
    model.hf_quant.reset();
    change(model.config["quantization_config"]);
    return refusal(model);
  };
  EXPECT_NE(with("modelopt", [](Json& c) { c["quant_algo"] = "NVFP4_AWQ"; })
                .find("quant_algo: found NVFP4_AWQ, accepted: NVFP4, W4A16_NVFP4, MIXED_PRECISION"),
            std::string::npos);
  EXPECT_NE(with("modelopt", [](Json& c) { c["quant_method"] = "gptq"; })
                .find("quant_method: found gptq, accepted: modelopt, compressed-tensors"),
            std::string::npos);
  EXPECT_NE(with("modelopt",
                 [](Json& c) {
                   c = {{"quant_method", "fp8"}, {"moe_quant_algo", "NVFP4"}};
                 })
                .find("found fp8 with moe_quant_algo"),
            std::string::npos);
  EXPECT_NE(with("compressed-tensors", [](Json& c) { c["format"] = "mxfp4-pack-quantized"; })
                .find("the config says mxfp4-pack-quantized"),
            std::string::npos);
  EXPECT_NE(with("compressed-tensors", [](Json& c) { c["config_groups"]["group_0"]["weights"]["group_size"] = 32; }),
            "");
  EXPECT_NE(with("compressed-tensors", [](Json& c) { c["ignore"].push_back("re:("); }), "");
}

TEST(dialects, every_storable_multiplier_survives_both_ways) {
  const Dialect& compressed = *find_dialect("compressed-tensors");
  const Dialect& modelopt = *find_dialect("modelopt");
  std::uint32_t state = 7;
  int changed = 0;
  for (int i = 0; i < 100'000; ++i) {
    state = state * 1664525u + 1013904223u;
    const float multiplier = std::ldexp(1.0f + static_cast<float>(state >> 9) * 0x1p-23f, -12);
    const float storable = storable_multiplier(multiplier);
    changed += storable != multiplier;
    EXPECT_LE(std::fabs(storable - multiplier), std::nextafter(multiplier, 1.0f) - multiplier);
    bool is_exact = false;
    EXPECT_EQ(1.0f / stored_scalar(compressed, storable, &is_exact), storable);
    EXPECT_TRUE(is_exact);
    EXPECT_EQ(stored_scalar(modelopt, storable), storable);
  }
  // The known share of f32 whose reciprocal's reciprocal is another number.
  EXPECT_NEAR(changed / 100'000.0, 0.17, 0.03);
}

}  // namespace
}  // namespace megamoe::test
