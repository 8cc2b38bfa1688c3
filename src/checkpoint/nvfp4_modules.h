// The modules of a model that are in NVFP4: experts and any other linear layer. What convert works on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/layer.h"

namespace megamoe {

struct Nvfp4Module {
  std::string name;  // "model.layers.0.mlp.experts.3.gate_proj"
  const Tensor* codes = nullptr;
  const Tensor* sf = nullptr;
  const Tensor* global = nullptr;
  const Tensor* input = nullptr;  // nullptr = absent
  float global_scale = 0.0f;      // multipliers
  float input_scale = 0.0f;       // 0 = absent
};

struct Nvfp4Modules {
  std::vector<Nvfp4Module> modules;  // in the files' order of their globals
  std::uint64_t expert_bytes = 0;    // of the routed experts' tensors
};

// Checks every MoE layer as the loader does, and throws for the first fault: what it would refuse is not written into a
// new file either.
Nvfp4Modules read_nvfp4_modules(const Model& model);

}  // namespace megamoe
