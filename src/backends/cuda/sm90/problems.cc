#include "backends/cuda/sm90/problems.h"

namespace megamoe {

std::string sm90_refusal(const Problem& problem) {
  if (problem.activations == ActivationFormat::kInt8)
    return "int8 activations are not for Hopper: asked int8, accepted: bf16, nvfp4";
  return {};
}

}  // namespace megamoe
