// DeepSeek-V2: softmax, optionally the best groups by their best expert, shared experts, dense layers first.
//
// norm_topk_prob: the authors' modeling_deepseek.py divides the weights by their sum + 1e-20 *instead of* scaling them
// (and only for top_k > 1); transformers' port never divides and always scales. Released models say false, where both
// agree. Here the authors' code is the rule.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"deepseek_v2"};

void read(ConfigReader& config, Architecture& a) {
  read_common_sizes(config, a);
  a.inter = config.size("moe_intermediate_size");
  a.experts = config.size_of_any({"n_routed_experts", "num_experts", "num_local_experts"});
  read_fused_shared_experts(config, a);
  read_dense_first_layers(config, a);

  config.one_of("scoring_func", "softmax", {"softmax"});
  const float scale = config.positive_number("routed_scaling_factor");
  const bool renormalize = config.flag("norm_topk_prob") && a.top_k > 1;
  a.routing = {.score = ScoreFunction::kSoftmax,
               .renormalize = renormalize,
               .renormalize_epsilon = 1e-20f,
               .scale = renormalize ? 1.0f : scale,
               .group_score = GroupScore::kMax};
  const std::string method = config.one_of("topk_method", std::nullopt, {"greedy", "group_limited_greedy"});
  if (method == "group_limited_greedy") {
    a.routing.groups = config.size("n_group");
    a.routing.groups_kept = config.size("topk_group");
  } else {
    config.ignore("n_group");
    config.ignore("topk_group");
  }
}

constexpr ModuleNames modules() {
  ModuleNames names = kMlpExperts;
  names.shared = "mlp.shared_experts";
  return names;
}

}  // namespace

extern const Family kDeepseekV2;
const Family kDeepseekV2{.name = "deepseek_v2", .model_types = kModelTypes, .modules = modules(), .read = read};

}  // namespace megamoe
