// MoE layer sizes of published models, for `plan` and `bench`: problems/models.txt, compiled in.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"

namespace megamoe::bench {

std::vector<std::string> shape_names();  // what --shape takes, in the order of the file

struct ShapeOptions {
  std::int64_t experts = 0;  // 0 = as many as the model has; fewer make the layer fit a machine
  bool shared = false;       // with the model's shared expert, in the format that the file gives it
  ActivationFormat activations = ActivationFormat::kBf16;
};

// The layer with NVFP4 weights. Throws kInvalidArgument naming the shapes there are, for fewer experts than the model's
// top-k, and for a shared expert that the model does not have.
Problem shape_problem(std::string_view name, const ShapeOptions& options);

}  // namespace megamoe::bench
