// NVFP4 back to BF16: for programs that read nothing else, and to see what quantising did to a model.
#pragma once

#include <memory>

#include "checkpoint/nvfp4_modules.h"
#include "checkpoint/rewrite.h"

namespace megamoe {

// Every NVFP4 module as one BF16 ".weight", its values rounded once (the product with the global scale is not exact in
// BF16); input scales have no place there and are left out. `model` and `modules` outlive the transform.
std::unique_ptr<Transform> make_dequantizer(const Model& model, const Nvfp4Modules& modules);

}  // namespace megamoe
