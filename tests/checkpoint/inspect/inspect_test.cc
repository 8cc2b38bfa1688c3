// Each of the 16 pitfalls planted alone, and found alone, under its number and the tensor's name.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "checkpoint/fabricate.h"
#include "checkpoint/files/file_fixtures.h"
#include "megamoe/checkpoint.h"

namespace megamoe::test {
namespace {

InspectReport inspected(const FakeModel& model) {
  const TempDir dir;
  model.write(dir.path());
  return inspect(dir.path());
}

std::string list(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) text += std::to_string(finding.pitfall) + " " + finding.to_string() + "\n";
  return text;
}

// Exactly one finding, of this pitfall and about this tensor.
void expect_only(const std::vector<Finding>& findings, int pitfall, const std::string& tensor) {
  ASSERT_EQ(findings.size(), 1u) << list(findings);
  EXPECT_EQ(findings[0].pitfall, pitfall) << list(findings);
  EXPECT_EQ(findings[0].tensor, tensor);
  EXPECT_FALSE(findings[0].sentence.empty());
}

FakeModel modelopt(bool input_scales = false) { return fake_quantised("qwen3_moe", "modelopt", input_scales); }

constexpr std::string_view kDialects[] = {"modelopt", "compressed-tensors"};

TEST(inspect, sound_models_of_every_family_and_dialect_are_clean) {
  for (const std::string& type : fake_families()) {
    std::vector<FakeModel> models = {fake_model(type)};
    for (const std::string_view dialect : kDialects)
      for (const bool input_scales : {false, true})
        models.push_back(fake_quantised(type, std::string(dialect), input_scales));
    for (const FakeModel& model : models) {
      const InspectReport report = inspected(model);
      EXPECT_TRUE(report.problems.empty()) << type << " " << report.dialect << "\n" << list(report.problems);
      ASSERT_FALSE(report.layers.empty());
      for (const LayerReport& layer : report.layers) {
        EXPECT_EQ(layer.expert_tensors, layer.expert_tensors_expected) << type << " " << report.dialect;
        EXPECT_EQ(layer.weights, report.dialect == "plain" ? "BF16" : "nvfp4");
      }
      EXPECT_EQ(report.tensors, static_cast<std::int64_t>(model.tensors.size()));
      EXPECT_NEAR(report.bits_per_expert_weight, report.dialect == "plain" ? 16.0 : 4.5, 0.05);
    }
  }
}

TEST(inspect, pitfall_1_reciprocal_where_a_multiplier_belongs) {
  for (const std::string_view dialect : kDialects) {
    FakeModel model = fake_quantised("qwen3_moe", std::string(dialect));
    const std::string name = model.expert(5, 2) + (dialect == "modelopt" ? ".weight_scale_2" : ".weight_global_scale");
    FakeTensor& global = model.at(name);
    global.bytes = float_bytes(1.0f / float_of(global.bytes));
    expect_only(inspected(model).problems, 1, name);
  }
}

TEST(inspect, pitfall_2_gate_and_up_globals_differ) {
  FakeModel model = modelopt();
  FakeTensor& up = model.at(model.expert(0, 1) + ".weight_scale_2");
  up.bytes = float_bytes(float_of(up.bytes) / 8);
  const InspectReport report = inspected(model);
  EXPECT_TRUE(report.problems.empty());
  expect_only(report.notes, 2, model.expert(0, 1) + ".weight_scale_2");
}

TEST(inspect, pitfall_3_missing_input_scale) {
  for (const std::string_view dialect : kDialects) {
    FakeModel model = fake_quantised("deepseek_v3", std::string(dialect), true);
    const std::string name = model.expert(7, 0) + (dialect == "modelopt" ? ".input_scale" : ".input_global_scale");
    model.erase(name);
    expect_only(inspected(model).problems, 3, name);
  }
}

TEST(inspect, pitfall_4_scales_that_are_no_scales) {
  for (const float value : {0.0f, -1.0f, std::nanf(""), std::numeric_limits<float>::infinity(), 1e-40f}) {
    FakeModel model = modelopt(true);
    model.at(model.expert(2, 1) + ".weight_scale_2").bytes = float_bytes(value);
    expect_only(inspected(model).problems, 4, model.expert(2, 1) + ".weight_scale_2");
    model = modelopt(true);
    model.at(model.expert(2, 1) + ".input_scale").bytes = float_bytes(value);
    expect_only(inspected(model).problems, 4, model.expert(2, 1) + ".input_scale");
  }
  for (const char bits : {'\x7f', '\xff', '\0'}) {
    FakeModel model = modelopt();
    model.at(model.expert(0, 2) + ".weight_scale").bytes.back() = bits;
    expect_only(inspected(model).problems, 4, model.expert(0, 2) + ".weight_scale");
  }
}

TEST(inspect, a_zero_scale_above_zero_codes_is_sound) {
  FakeModel model = modelopt();
  model.at(model.expert(0, 2) + ".weight_scale").bytes[0] = '\0';
  model.at(model.expert(0, 2) + ".weight").bytes.replace(0, 8, std::string("\0\x80\x08\0\0\0\0\x88", 8));
  EXPECT_TRUE(inspected(model).problems.empty());
}

TEST(inspect, pitfall_5_global_of_one_above_subnormal_scales) {
  FakeModel model = modelopt();
  FakeTensor& scales = model.at(model.expert(4, 2) + ".weight_scale");
  scales.bytes.assign(scales.bytes.size(), '\x03');
  model.at(model.expert(4, 2) + ".weight_scale_2").bytes = float_bytes(1.0f);
  const InspectReport report = inspected(model);
  EXPECT_TRUE(report.problems.empty());
  EXPECT_TRUE(std::ranges::any_of(report.notes, [&](const Finding& note) {
    return note.pitfall == 5 && note.tensor == model.expert(4, 2) + ".weight_scale_2";
  })) << list(report.notes);
}

TEST(inspect, pitfall_6_negative_scale) {
  FakeModel model = modelopt();
  model.at(model.expert(3, 0) + ".weight_scale").bytes[1] = '\xb8';
  const InspectReport report = inspected(model);
  expect_only(report.problems, 6, model.expert(3, 0) + ".weight_scale");
  EXPECT_NE(report.problems[0].sentence.find("negative at [0, 1]"), std::string::npos);
}

TEST(inspect, pitfall_7_router_quantised_or_not_excluded) {
  const std::string router = "model.layers.1.mlp.gate";
  FakeModel model = modelopt();
  model.at(router + ".weight") = {router + ".weight", DType::kU8, {kExperts, kHidden / 2}, std::string(256, '\x11')};
  expect_only(inspected(model).problems, 7, router + ".weight");

  for (const std::string_view dialect : kDialects) {
    model = fake_quantised("qwen3_moe", std::string(dialect));
    Json& ignored = model.config["quantization_config"]["ignore"];
    ignored.erase(std::ranges::find(ignored, Json(router)));
    model.hf_quant.reset();
    expect_only(inspected(model).problems, 7, router + ".weight");
  }
}

TEST(inspect, pitfall_8_experts_left_in_bf16) {
  const FakeModel plain = fake_model("mixtral");
  FakeModel model = fake_quantised("mixtral", "modelopt");
  const auto put_back = [&](const std::string& module) {
    for (const char* suffix : {".weight", ".weight_scale", ".weight_scale_2"}) model.erase(module + suffix);
    for (const FakeTensor& tensor : plain.tensors)
      if (tensor.name == module + ".weight") model.add(tensor);
  };
  put_back("model.layers.1.block_sparse_moe.experts.6.w2");
  expect_only(inspected(model).problems, 8, "model.layers.1.block_sparse_moe.experts.6.w2.weight");

  // A whole layer: the first ones are named, the others counted.
  for (int expert = 0; expert < kExperts; ++expert)
    for (const char* which : {".w1", ".w3", ".w2"})
      if (const std::string module = "model.layers.1.block_sparse_moe.experts." + std::to_string(expert) + which;
          module != "model.layers.1.block_sparse_moe.experts.6.w2")
        put_back(module);
  const InspectReport report = inspected(model);
  EXPECT_EQ(report.layers[0].weights, "nvfp4");
  EXPECT_EQ(report.layers[1].weights, "BF16");
  ASSERT_EQ(report.problems.size(), 8u) << list(report.problems);
  EXPECT_NE(report.problems[7].sentence.find("and 16 more"), std::string::npos);
}

TEST(inspect, pitfall_8_stacked_experts) {
  FakeModel model = fake_model("qwen3_moe");
  std::erase_if(model.tensors, [&](const FakeTensor& tensor) { return tensor.name.starts_with(model.experts); });
  const Shape shape{kExperts, 2 * kInter, kHidden};
  model.add({model.experts + ".gate_up_proj", DType::kBF16, shape, bf16_bytes(shape.elements(), 1)});
  expect_only(inspected(model).problems, 8, model.experts + ".gate_up_proj");
}

TEST(inspect, pitfall_9_transposed) {
  FakeModel model = modelopt();
  for (const auto& [suffix, cols] : {std::pair{".weight", kHidden / 2}, {".weight_scale", kHidden / 16}}) {
    model = modelopt();
    model.at(model.expert(1, 0) + suffix).shape = {cols, kInter};
    expect_only(inspected(model).problems, 9, model.expert(1, 0) + suffix);
  }
  model = fake_model("qwen3_moe");
  model.at(model.expert(1, 2) + ".weight").shape = {kInter, kHidden};
  expect_only(inspected(model).problems, 9, model.expert(1, 2) + ".weight");
}

TEST(inspect, pitfall_10_config_against_tensors) {
  FakeModel model = fake_quantised("qwen3_moe", "compressed-tensors");
  model.config["quantization_config"]["ignore"].push_back("re:.*experts\\.3\\.up_proj");
  expect_only(inspected(model).problems, 10, model.expert(3, 1) + ".weight_packed");

  model = fake_model("deepseek_v3");
  model.config["first_k_dense_replace"] = 2;
  model.config["num_hidden_layers"] = 3;
  const InspectReport report = inspected(model);
  EXPECT_TRUE(std::ranges::any_of(report.problems, [&](const Finding& f) {
    return f.pitfall == 10 && f.tensor.starts_with("model.layers.1.mlp.experts.");
  })) << list(report.problems);
}

TEST(inspect, pitfall_11_dimension_without_blocks) {
  FakeModel model = fake_model("qwen3_moe");
  model.config["moe_intermediate_size"] = 40;
  const InspectReport report = inspected(model);
  ASSERT_FALSE(report.problems.empty());
  EXPECT_EQ(report.problems[0].pitfall, 11);
  EXPECT_EQ(report.problems[0].file, "config.json");
}

TEST(inspect, pitfall_12_a_layer_over_several_shards) {
  FakeModel model = modelopt();
  int count = 0;
  for (FakeTensor& tensor : model.tensors)
    tensor.shard = ++count % 2 ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors";
  const InspectReport report = inspected(model);
  EXPECT_TRUE(report.problems.empty()) << list(report.problems);
  EXPECT_EQ(report.files.size(), 2u);
  EXPECT_TRUE(std::ranges::any_of(report.notes, [](const Finding& note) { return note.pitfall == 12; }));

  model.at(model.expert(0, 0) + ".weight_scale").bytes[0] = '\x7f';
  const InspectReport second = inspected(model);
  expect_only(second.problems, 4, model.expert(0, 0) + ".weight_scale");
  EXPECT_EQ(second.problems[0].file, model.at(model.expert(0, 0) + ".weight_scale").shard);
}

TEST(inspect, pitfall_13_scalar_with_another_shape) {
  FakeModel model = modelopt();
  FakeTensor& global = model.at(model.expert(2, 0) + ".weight_scale_2");
  global.shape = {1};
  const InspectReport report = inspected(model);
  EXPECT_TRUE(report.problems.empty());
  EXPECT_TRUE(std::ranges::any_of(report.notes, [](const Finding& note) { return note.pitfall == 13; }));
  global.shape = {2};
  global.bytes += global.bytes;
  expect_only(inspected(model).problems, 13, model.expert(2, 0) + ".weight_scale_2");
}

TEST(inspect, pitfall_14_input_scales_differ_between_experts) {
  FakeModel model = modelopt(true);
  model.at(model.expert(6, 0) + ".input_scale").bytes = float_bytes(0.25f);
  const InspectReport report = inspected(model);
  EXPECT_TRUE(report.problems.empty());
  EXPECT_TRUE(std::ranges::any_of(report.notes, [&](const Finding& note) {
    return note.pitfall == 14 && note.tensor == model.expert(6, 0) + ".input_scale";
  })) << list(report.notes);
}

TEST(inspect, pitfall_15_prefixes) {
  for (const char* prefix : {"model.language_model.", "language_model.model.", "language_model.", ""}) {
    FakeModel model = fake_model("glm4_moe");
    model.rename_prefix("model.layers.", std::string(prefix) + "layers.");
    const InspectReport report = inspected(model);
    EXPECT_TRUE(report.problems.empty()) << prefix << "\n" << list(report.problems);
    EXPECT_EQ(report.prefix, prefix);
  }
  FakeModel model = fake_model("glm4_moe");
  model.rename_prefix("model.layers.", "transformer.layers.");
  EXPECT_EQ(inspected(model).problems.at(0).pitfall, 15);

  model = fake_model("glm4_moe");
  FakeTensor twin = model.at(model.expert(0, 0) + ".weight");
  twin.name = "language_model." + twin.name;
  model.add(twin);
  expect_only(inspected(model).problems, 15, twin.name);
}

TEST(inspect, pitfall_16_mtp_layer_in_another_format) {
  FakeModel model = fake_quantised("deepseek_v3", "modelopt");
  const FakeModel plain = fake_model("deepseek_v3");
  for (FakeTensor tensor : plain.tensors)
    if (tensor.name.starts_with("model.layers.1.mlp.experts.")) {
      tensor.name.replace(0, 15, "model.layers.2.");
      model.add(tensor);
    }
  expect_only(inspected(model).problems, 16, "model.layers.2.mlp.experts.0.down_proj.weight");

  // Said by the config, it is a note.
  model.config["quantization_config"]["ignore"].push_back("model.layers.2*");
  model.hf_quant.reset();
  const InspectReport report = inspected(model);
  EXPECT_TRUE(report.problems.empty()) << list(report.problems);
  EXPECT_TRUE(std::ranges::any_of(report.notes, [](const Finding& note) { return note.pitfall == 16; }));
}

TEST(inspect, every_missing_tensor_is_named) {
  for (const std::string& type : fake_families())
    for (const std::string_view dialect : kDialects) {
      const FakeModel model = fake_quantised(type, std::string(dialect));
      for (const FakeTensor& tensor : model.tensors) {
        const bool is_needed = tensor.name.starts_with(model.expert(4, 2)) ||
                               tensor.name.find("mlp.gate.") != std::string::npos ||
                               tensor.name.find("shared_expert") != std::string::npos;
        if (!is_needed || tensor.name.starts_with("model.layers.0.mlp")) continue;
        FakeModel without = model;
        without.erase(tensor.name);
        const InspectReport report = inspected(without);
        ASSERT_FALSE(report.problems.empty()) << tensor.name;
        EXPECT_EQ(report.problems[0].tensor, tensor.name) << list(report.problems);
      }
    }
}

TEST(inspect, a_missing_expert_is_named) {
  FakeModel model = modelopt();
  std::erase_if(model.tensors, [&](const FakeTensor& t) { return t.name.starts_with(model.experts + ".7."); });
  expect_only(inspected(model).problems, 0, model.experts + ".7");
}

TEST(inspect, an_unknown_tensor_in_a_moe_block_is_named) {
  for (const char* name :
       {"model.layers.1.mlp.experts.0.gate_proj.pre_quant_scale", "model.layers.1.mlp.experts.8.up_proj.weight",
        "model.layers.1.mlp.gate.bias", "model.layers.1.mlp.shared_expert.up_proj.weight"}) {
    FakeModel model = modelopt();
    model.add({name, DType::kBF16, {16}, std::string(32, '\0')});
    expect_only(inspected(model).problems, 0, name);
  }
}

TEST(inspect, all_problems_are_found_in_one_pass) {
  FakeModel model = modelopt(true);
  model.at(model.expert(0, 0) + ".weight_scale").bytes[0] = '\x7f';
  model.at(model.expert(1, 1) + ".weight_scale").bytes[0] = '\xb8';
  model.at(model.expert(2, 2) + ".weight_scale_2").bytes = float_bytes(0);
  model.erase(model.expert(3, 0) + ".input_scale");
  model.at(model.expert(4, 0) + ".weight").shape = {kHidden / 2, kInter};
  model.erase(model.expert(5, 1) + ".weight_scale");
  model.config["swiglu_limit"] = 7;
  (*model.hf_quant)["quantization"]["quant_algo"] = "W4A16_NVFP4";
  const InspectReport report = inspected(model);
  std::vector<int> pitfalls;
  for (const Finding& problem : report.problems) pitfalls.push_back(problem.pitfall);
  std::ranges::sort(pitfalls);
  EXPECT_EQ(pitfalls, (std::vector<int>{0, 0, 3, 4, 4, 6, 9, 10})) << list(report.problems);
}

TEST(inspect, throws_only_where_nothing_can_be_read) {
  const TempDir dir;
  EXPECT_NE(sentence_of([&] { inspect(dir.path()); }), "");
  EXPECT_NE(sentence_of([&] { inspect(dir / "missing"); }), "");
  fake_model("mixtral").write(dir.path());
  write_bytes(dir / "config.json", "{");
  EXPECT_NE(sentence_of([&] { inspect(dir.path()); }).find("config.json"), std::string::npos);
}

TEST(inspect, pitfall_titles_cover_all_numbers) {
  for (int pitfall = 1; pitfall <= kPitfallCount; ++pitfall) EXPECT_FALSE(pitfall_title(pitfall).empty());
  EXPECT_TRUE(pitfall_title(0).empty());
  EXPECT_TRUE(pitfall_title(kPitfallCount + 1).empty());
}

}  // namespace
}  // namespace megamoe::test
