// DeepSeek-V3/R1 and Kimi-K2: sigmoid scores, correction bias for the choice, groups scored by their best two experts,
// shared experts, dense layers first. Source: deepseek-ai/DeepSeek-V3 inference/model.py and transformers.
//
// Groups outside the kept ones are masked with -inf, as the authors do; an older transformers masked with 0, which
// differs only where a kept biased score is negative. Epsilon 1e-20 as in transformers (the authors add none).
#include "checkpoint/families/family.h"

namespace megamoe {
namespace {

constexpr std::string_view kModelTypes[] = {"deepseek_v3", "kimi_k2"};

}  // namespace

extern const Family kDeepseekV3;
const Family kDeepseekV3{.name = "deepseek_v3", .model_types = kModelTypes, .modules = v3_modules(), .read = read_v3};

}  // namespace megamoe
