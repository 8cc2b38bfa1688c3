// Qwen3-MoE: softmax over all experts, no shared expert. Source: transformers, models/qwen3_moe.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"qwen3_moe"};

void read(ConfigReader& config, Architecture& a) {
  read_common_sizes(config, a);
  a.inter = config.size("moe_intermediate_size");
  // transformers 5 saves the second name only.
  a.experts = config.size_of_any({"num_experts", "num_local_experts"});
  // The class default is false; released models say true.
  a.routing = {.score = ScoreFunction::kSoftmax, .renormalize = config.flag_or("norm_topk_prob", false)};
  read_sparse_step_layers(config, a);
}

}  // namespace

extern const Family kQwen3Moe;
const Family kQwen3Moe{.name = "qwen3_moe", .model_types = kModelTypes, .modules = kMlpExperts, .read = read};

}  // namespace megamoe
