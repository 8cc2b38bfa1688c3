// GLM-4.5: the router, shared experts and layer order of DeepSeek-V3, with one group. Source: transformers,
// models/glm4_moe.
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"glm4_moe"};

}  // namespace

extern const Family kGlm4Moe;
const Family kGlm4Moe{.name = "glm4_moe", .model_types = kModelTypes, .modules = v3_modules(), .read = read_v3};

}  // namespace megamoe
