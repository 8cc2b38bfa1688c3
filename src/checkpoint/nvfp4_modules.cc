#include "checkpoint/nvfp4_modules.h"

namespace megamoe {

Nvfp4Modules read_nvfp4_modules(const Model& model) {
  const Dialect& dialect = *model.dialect;
  Nvfp4Modules result;
  Pass pass;
  for (const std::int64_t index : model.architecture.moe_layers) {
    const StoredLayer layer = read_layer(model, index, pass);
    check_layer_scales(model, layer, pass);
    pass.problems.throw_if_any();
    for (const StoredMatrix* matrix : layer.routed()) result.expert_bytes += matrix->bytes();
  }
  for (const Tensor& tensor : model.files.tensors()) {
    if (!tensor.name.ends_with(dialect.global)) continue;
    Nvfp4Module module{.name = std::string(tensor.name.substr(0, tensor.name.size() - dialect.global.size()))};
    module.codes = &model.files.tensor(module.name + std::string(dialect.codes));
    module.sf = &model.files.tensor(module.name + std::string(dialect.sf));
    module.global = &tensor;
    module.global_scale = read_multiplier(model, tensor, pass);
    module.input = model.find(module.name + std::string(dialect.input));
    if (module.input != nullptr) module.input_scale = read_multiplier(model, *module.input, pass);
    result.modules.push_back(std::move(module));
  }
  pass.problems.throw_if_any();
  return result;
}

}  // namespace megamoe
