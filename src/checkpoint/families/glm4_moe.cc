// GLM-4.5: the router, shared experts and layer order of DeepSeek-V3, with one group. Source: transformers,
// models/glm4_moe.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"glm4_moe"};

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

extern const Family kGlm4Moe;
const Family kGlm4Moe{.name = "glm4_moe", .model_types = kModelTypes, .modules = modules(), .read = read};

}  // namespace megamoe
