// Mixtral: softmax, the chosen weights always renormalised; expert matrices are w1 (gate), w3 (up), w2 (down).
// Source: transformers, models/mixtral.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"mixtral"};

void read(ConfigReader& config, Architecture& a) {
  read_common_sizes(config, a);
  a.inter = config.size("intermediate_size");
  a.experts = config.size("num_local_experts");
  a.routing = {.score = ScoreFunction::kSoftmax, .renormalize = true};
  for (std::int64_t layer = 0; layer < a.layers; ++layer) a.moe_layers.push_back(layer);
}

constexpr ModuleNames kModules{.block = "block_sparse_moe",
                               .experts = "block_sparse_moe.experts",
                               .gate = "w1",
                               .up = "w3",
                               .down = "w2",
                               .router = "block_sparse_moe.gate",
                               .choice_bias = {},
                               .shared = {},
                               .shared_gate = {}};

}  // namespace

extern const Family kMixtral;
const Family kMixtral{.name = "mixtral", .model_types = kModelTypes, .modules = kModules, .read = read};

}  // namespace megamoe
