#include <gtest/gtest.h>

#include "checkpoint/fabricate.h"
#include "checkpoint/families/family.h"

namespace megamoe::test {
namespace {

struct Read {
  Architecture architecture;
  std::vector<Finding> problems;
};

Read read(const Json& config) {
  Findings findings;
  Read result;
  result.architecture = read_architecture(Config::parse(config.dump(), "config.json"), findings);
  result.problems = findings.take();
  return result;
}

std::string first_problem(const Json& config) {
  const Read result = read(config);
  return result.problems.empty() ? "" : result.problems[0].to_string();
}

TEST(families, every_family_reads_its_sizes) {
  for (const std::string& type : fake_families()) {
    const Read result = read(fake_model(type).config);
    ASSERT_TRUE(result.problems.empty()) << type << ": " << result.problems[0].to_string();
    const Architecture& a = result.architecture;
    EXPECT_TRUE(a.has_sizes);
    EXPECT_EQ(a.hidden, kHidden) << type;
    EXPECT_EQ(a.inter, kInter) << type;
    EXPECT_EQ(a.experts, kExperts) << type;
    EXPECT_EQ(a.layers, 2) << type;
    EXPECT_EQ(a.activation, Activation{}) << type;
    EXPECT_EQ(a.moe_layers, type == "mixtral" ? std::vector<std::int64_t>({0, 1}) : std::vector<std::int64_t>{1})
        << type;
  }
}

TEST(families, routing_rules_are_those_of_the_models) {
  const auto rule = [](const std::string& type) { return read(fake_model(type).config).architecture.routing; };
  const RoutingRule softmax{.score = ScoreFunction::kSoftmax, .renormalize = true};
  EXPECT_EQ(rule("qwen3_moe"), softmax);
  EXPECT_EQ(rule("qwen2_moe"), softmax);
  EXPECT_EQ(rule("mixtral"), softmax);
  const RoutingRule v3{.score = ScoreFunction::kSigmoid,
                       .renormalize = true,
                       .renormalize_epsilon = 1e-20f,
                       .scale = 2.5f,
                       .groups = 4,
                       .groups_kept = 2,
                       .group_score = GroupScore::kTop2Sum};
  EXPECT_EQ(rule("deepseek_v3"), v3);
  EXPECT_EQ(rule("kimi_k2"), v3);
  EXPECT_EQ(rule("glm4_moe"), v3);
  const RoutingRule v2{.score = ScoreFunction::kSoftmax,
                       .renormalize = false,
                       .renormalize_epsilon = 1e-20f,
                       .scale = 16.0f,
                       .groups = 4,
                       .groups_kept = 2,
                       .group_score = GroupScore::kMax};
  EXPECT_EQ(rule("deepseek_v2"), v2);
}

TEST(families, deepseek_v2_normalises_instead_of_scaling) {
  Json config = fake_model("deepseek_v2").config;
  config["norm_topk_prob"] = true;
  const RoutingRule rule = read(config).architecture.routing;
  EXPECT_TRUE(rule.renormalize);
  EXPECT_EQ(rule.scale, 1.0f);
}

TEST(families, deepseek_v2_greedy_has_no_groups) {
  Json config = fake_model("deepseek_v2").config;
  config["topk_method"] = "greedy";
  const Read result = read(config);
  EXPECT_TRUE(result.problems.empty());
  EXPECT_EQ(result.architecture.routing.groups, 1);
}

TEST(families, norm_topk_prob_defaults_follow_the_classes) {
  for (const auto& [type, expected] : {std::pair{"qwen3_moe", false}, {"qwen2_moe", false}, {"qwen3_next", true}}) {
    Json config = fake_model(type).config;
    config.erase("norm_topk_prob");
    EXPECT_EQ(read(config).architecture.routing.renormalize, expected) << type;
  }
}

TEST(families, newer_transformers_name_is_read) {
  Json config = fake_model("qwen3_moe").config;
  config.erase("num_experts");
  config["num_local_experts"] = kExperts;
  EXPECT_EQ(read(config).architecture.experts, kExperts);
}

TEST(families, sparse_step_and_dense_layers) {
  Json config = fake_model("qwen3_moe").config;
  config["num_hidden_layers"] = 8;
  config["decoder_sparse_step"] = 2;
  config["mlp_only_layers"] = {3};
  EXPECT_EQ(read(config).architecture.moe_layers, (std::vector<std::int64_t>{1, 5, 7}));

  config = fake_model("deepseek_v3").config;
  config["num_hidden_layers"] = 8;
  config["first_k_dense_replace"] = 3;
  config["moe_layer_freq"] = 2;
  EXPECT_EQ(read(config).architecture.moe_layers, (std::vector<std::int64_t>{4, 6}));
}

TEST(families, shared_experts_have_their_width) {
  EXPECT_EQ(read(fake_model("deepseek_v3").config).architecture.shared_inter, 2 * kInter);
  const Architecture qwen = read(fake_model("qwen2_moe").config).architecture;
  EXPECT_EQ(qwen.shared_inter, 32);
  EXPECT_TRUE(qwen.shared_gated);
  EXPECT_EQ(read(fake_model("qwen3_moe").config).architecture.shared_inter, 0);
}

TEST(families, text_config_of_a_multimodal_model_is_used) {
  Json config;
  config["model_type"] = "kimi_k25";
  config["text_config"] = fake_model("kimi_k2").config;
  const Read result = read(config);
  EXPECT_TRUE(result.problems.empty());
  EXPECT_EQ(result.architecture.family->name, "deepseek_v3");
}

TEST(families, unknown_things_are_refused_with_what_is_accepted) {
  const auto with = [](const std::string& type, const std::string& key, const Json& value) {
    Json config = fake_model(type).config;
    config[key] = value;
    return first_problem(config);
  };
  EXPECT_EQ(with("qwen3_moe", "model_type", "gpt_oss"),
            "config.json: model_type: found gpt_oss, accepted: qwen3_moe, qwen2_moe, qwen3_next, mixtral, deepseek_v2, "
            "deepseek_v3, kimi_k2, glm4_moe");
  EXPECT_EQ(with("qwen3_moe", "hidden_act", "gelu"), "config.json: hidden_act: found \"gelu\", accepted: silu");
  EXPECT_EQ(with("deepseek_v3", "scoring_func", "softmax"),
            "config.json: scoring_func: found \"softmax\", accepted: sigmoid");
  EXPECT_EQ(with("deepseek_v3", "topk_method", "greedy"),
            "config.json: topk_method: found \"greedy\", accepted: noaux_tc");
  EXPECT_EQ(with("deepseek_v2", "topk_method", "noaux_tc"),
            "config.json: topk_method: found \"noaux_tc\", accepted: greedy, group_limited_greedy");
  for (const char* key : {"swiglu_limit", "num_hash_layers", "moe_latent_size", "router_softcap", "n_shared_experts"})
    EXPECT_NE(with("qwen3_moe", key, 3).find(std::string(key) + ": unknown to this family"), std::string::npos) << key;
  EXPECT_EQ(with("qwen3_moe", "swiglu_limit", nullptr), "");
}

TEST(families, sizes_that_do_not_fit_are_refused) {
  const auto with = [](const std::string& type, const std::string& key, const Json& value) {
    Json config = fake_model(type).config;
    config[key] = value;
    return first_problem(config);
  };
  for (const auto& [key, value] : std::vector<std::pair<std::string, Json>>{{"num_experts_per_tok", 9},
                                                                            {"num_experts_per_tok", 0},
                                                                            {"n_routed_experts", 0},
                                                                            {"n_routed_experts", -8},
                                                                            {"n_routed_experts", 1'000'000},
                                                                            {"hidden_size", 0},
                                                                            {"hidden_size", 60},
                                                                            {"moe_intermediate_size", 24},
                                                                            {"num_hidden_layers", 1},
                                                                            {"num_hidden_layers", 1'000'000},
                                                                            {"n_group", 3},
                                                                            {"n_group", 0},
                                                                            {"topk_group", 5},
                                                                            {"topk_group", 0},
                                                                            {"n_shared_experts", 1'000'000},
                                                                            {"routed_scaling_factor", 0},
                                                                            {"norm_topk_prob", 1}})
    EXPECT_NE(with("deepseek_v3", key, value), "") << key << " " << value;
  // Three experts, but the one kept group holds two.
  EXPECT_NE(with("deepseek_v3", "topk_group", 1), "");
}

TEST(families, missing_sizes_are_all_reported) {
  const Read result = read({{"model_type", "deepseek_v3"}});
  EXPECT_FALSE(result.architecture.has_sizes);
  EXPECT_GE(result.problems.size(), 9u);
}

}  // namespace
}  // namespace megamoe::test
