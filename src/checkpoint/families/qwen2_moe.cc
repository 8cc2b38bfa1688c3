// Qwen2-MoE (Qwen1.5-MoE): as Qwen3-MoE with one shared expert behind a sigmoid gate. Source: transformers,
// models/qwen2_moe.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"qwen2_moe"};

void read(ConfigReader& config, Architecture& a) { read_gated_qwen(config, a, false); }

}  // namespace

extern const Family kQwen2Moe;
const Family kQwen2Moe{.name = "qwen2_moe", .model_types = kModelTypes, .modules = gated_qwen_modules(), .read = read};

}  // namespace megamoe
