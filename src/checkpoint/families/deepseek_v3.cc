// DeepSeek-V3/R1 and Kimi-K2: sigmoid scores, correction bias for the choice, groups scored by their best two experts,
// shared experts, dense layers first. Source: deepseek-ai/DeepSeek-V3 inference/model.py and transformers.
//
// Groups outside the kept ones are masked with -inf, as the authors do; an older transformers masked with 0, which
// differs only where a kept biased score is negative. Epsilon 1e-20 as in transformers (the authors add none).
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"deepseek_v3", "kimi_k2"};

void read(ConfigReader& config, Architecture& a) {
  read_common_sizes(config, a);
  a.inter = config.size("moe_intermediate_size");
  a.experts = config.size_of_any({"n_routed_experts", "num_experts", "num_local_experts"});
  read_fused_shared_experts(config, a);
  read_dense_first_layers(config, a);
  read_v3_routing(config, a);
}

constexpr ModuleNames modules() {
  ModuleNames names = kMlpExperts;
  names.choice_bias = "mlp.gate.e_score_correction_bias";
  names.shared = "mlp.shared_experts";
  return names;
}

}  // namespace

extern const Family kDeepseekV3;
const Family kDeepseekV3{.name = "deepseek_v3", .model_types = kModelTypes, .modules = modules(), .read = read};

}  // namespace megamoe
