// Qwen3-Next: the MoE block of Qwen2-MoE in a model with linear attention; weights are renormalised by default.
// Source: transformers, models/qwen3_next.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"qwen3_next"};

void read(ConfigReader& config, Architecture& a) { read_gated_qwen(config, a, true); }

}  // namespace

extern const Family kQwen3Next;
const Family kQwen3Next{
    .name = "qwen3_next", .model_types = kModelTypes, .modules = gated_qwen_modules(), .read = read};

}  // namespace megamoe
