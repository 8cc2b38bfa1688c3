// Parts of configs that several families share.
#include <algorithm>

#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::int64_t kMaxLayers = 10'000;

}  // namespace

void read_common_sizes(ConfigReader& config, Architecture& a) {
  a.hidden = config.size("hidden_size");
  a.top_k = config.size("num_experts_per_tok");
  a.layers = config.size("num_hidden_layers");
  if (a.layers > kMaxLayers) {
    config.fail(0, "num_hidden_layers: found ", a.layers, ", accepted: at most ", kMaxLayers);
    a.layers = 1;
  }
  config.one_of("hidden_act", "silu", {"silu"});
}

void read_sparse_step_layers(ConfigReader& config, Architecture& a) {
  const std::int64_t step = std::max<std::int64_t>(config.count_or("decoder_sparse_step", 1), 1);
  std::vector<std::int64_t> dense = config.counts_or_empty("mlp_only_layers");
  std::ranges::sort(dense);  // it may be long, in a hostile file
  for (std::int64_t layer = 0; layer < a.layers; ++layer)
    if ((layer + 1) % step == 0 && !std::ranges::binary_search(dense, layer)) a.moe_layers.push_back(layer);
}

void read_dense_first_layers(ConfigReader& config, Architecture& a) {
  const std::int64_t first = config.count("first_k_dense_replace");
  const std::int64_t step = std::max<std::int64_t>(config.count_or("moe_layer_freq", 1), 1);
  for (std::int64_t layer = first; layer < a.layers; ++layer)
    if (layer % step == 0) a.moe_layers.push_back(layer);
}

void read_fused_shared_experts(ConfigReader& config, Architecture& a) {
  const std::int64_t shared = config.count_or("n_shared_experts", 0);
  if (shared > 1024) config.fail(0, "n_shared_experts: found ", shared, ", accepted: at most 1024");
  a.shared_inter = std::min<std::int64_t>(shared, 1024) * a.inter;
}

void read_gated_qwen(ConfigReader& config, Architecture& a, bool default_renormalize) {
  read_common_sizes(config, a);
  a.inter = config.size("moe_intermediate_size");
  a.experts = config.size_of_any({"num_experts", "num_local_experts"});
  a.shared_inter = config.size("shared_expert_intermediate_size");
  a.shared_gated = true;
  a.routing = {.score = ScoreFunction::kSoftmax, .renormalize = config.flag_or("norm_topk_prob", default_renormalize)};
  read_sparse_step_layers(config, a);
}

void read_v3(ConfigReader& config, Architecture& a) {
  read_common_sizes(config, a);
  a.inter = config.size("moe_intermediate_size");
  a.experts = config.size_of_any({"n_routed_experts", "num_experts", "num_local_experts"});
  read_fused_shared_experts(config, a);
  read_dense_first_layers(config, a);
  config.one_of("scoring_func", "sigmoid", {"sigmoid"});
  config.one_of("topk_method", "noaux_tc", {"noaux_tc"});
  a.routing = {.score = ScoreFunction::kSigmoid,
               .renormalize = config.flag("norm_topk_prob"),
               .renormalize_epsilon = 1e-20f,
               .scale = config.positive_number("routed_scaling_factor"),
               .groups = config.size("n_group"),
               .groups_kept = config.size("topk_group"),
               .group_score = GroupScore::kTop2Sum,
               .round_logits_to_bf16 = false};
}

}  // namespace megamoe
