#include "checkpoint/layer.h"

#include <charconv>

namespace megamoe {
namespace {

// The expert's number in "<experts>.12.gate_proj.weight"; -1 for what is below <experts> but not of one expert, -2 for
// other tensors of the block.
std::int64_t expert_of(std::string_view rest, const ModuleNames& modules) {
  if (!rest.starts_with(modules.experts) || rest.size() <= modules.experts.size() ||
      rest[modules.experts.size()] != '.')
    return -2;
  rest.remove_prefix(modules.experts.size() + 1);
  std::int64_t expert = 0;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), expert);
  const bool is_number = error == std::errc{} && end != rest.data() + rest.size() && *end == '.' && rest[0] != '-';
  return is_number ? expert : -1;
}

StoredExpert read_expert(const Model& model, const std::string& module, std::int64_t inter, Pass& pass) {
  const ModuleNames& names = model.architecture.family->modules;
  const std::int64_t hidden = model.architecture.hidden;
  const auto child = [&](std::string_view name) { return module + "." + std::string(name); };
  return {{read_matrix(model, child(names.gate), inter, hidden, pass),
           read_matrix(model, child(names.up), inter, hidden, pass),
           read_matrix(model, child(names.down), hidden, inter, pass)}};
}

// Reads the experts that have tensors at all; the others are one finding.
void read_experts(const Model& model, StoredLayer& layer, Pass& pass) {
  const Architecture& a = model.architecture;
  const auto block = model.blocks.find(layer.index);
  std::vector<bool> is_present(static_cast<std::size_t>(a.experts));
  bool is_stacked = false;
  if (block != model.blocks.end())
    for (const Tensor* tensor : block->second) {
      const std::int64_t expert = expert_of(split_layer_name(tensor->name)->rest, a.family->modules);
      if (expert >= 0 && expert < a.experts) is_present[static_cast<std::size_t>(expert)] = true;
      if (expert != -1) continue;
      is_stacked = true;
      pass.known.insert(tensor);
      pass.problems.add_unsupported(8, std::string(tensor->name), model.file_of(*tensor), "all experts in one tensor, ",
                                    tensor->view.shape.to_string(), " ", dtype_name(tensor->view.dtype),
                                    ", accepted: one matrix an expert");
    }
  layer.experts.resize(is_present.size());
  std::int64_t first_missing = -1, missing = 0;
  for (std::int64_t expert = 0; expert < a.experts; ++expert) {
    const auto at = static_cast<std::size_t>(expert);
    if (is_present[at])
      layer.experts[at] = read_expert(model, model.expert_module(layer.index, expert), a.inter, pass);
    else if (missing++ == 0)
      first_missing = expert;
  }
  if (missing > 0 && !is_stacked)
    pass.problems.add(0, model.expert_module(layer.index, first_missing), "", "no tensors for ", missing, " of ",
                      a.experts, " experts, this being the first");
}

void read_router(const Model& model, StoredLayer& layer, Pass& pass) {
  const Architecture& a = model.architecture;
  const ModuleNames& names = a.family->modules;
  const std::string module = model.layer_module(layer.index, names.router);
  bool is_quantised = false;
  for (const std::string_view suffix :
       {model.dialect->codes, model.dialect->sf, model.dialect->global, model.dialect->input}) {
    const Tensor* tensor = suffix.empty() ? nullptr : model.find(module + std::string(suffix));
    if (tensor == nullptr || (suffix == kPlainWeight && tensor->view.dtype != DType::kU8)) continue;
    is_quantised = true;
    pass.known.insert(tensor);
    pass.problems.add(7, std::string(tensor->name), model.file_of(*tensor),
                      "the router is quantised, accepted: BF16, F16 or F32");
  }
  if (!is_quantised) layer.router = read_float_tensor(model, module + ".weight", {a.experts, a.hidden}, pass);
  if (!names.choice_bias.empty())
    layer.choice_bias = read_float_tensor(model, model.layer_module(layer.index, names.choice_bias), {a.experts}, pass);
}

void refuse_unknown(const Model& model, const StoredLayer& layer, Pass& pass) {
  const auto block = model.blocks.find(layer.index);
  if (block == model.blocks.end()) return;
  for (const Tensor* tensor : block->second)
    if (!pass.known.contains(tensor))
      pass.problems.add(0, std::string(tensor->name), model.file_of(*tensor), "unknown tensor in a MoE block of ",
                        model.architecture.family->name, " (", model.dialect->name, ")");
}

}  // namespace

std::vector<const StoredMatrix*> StoredLayer::routed() const {
  std::vector<const StoredMatrix*> list;
  for (const StoredExpert& expert : experts)
    for (const auto& matrix : expert.matrices)
      if (matrix) list.push_back(&*matrix);
  return list;
}

StoredLayer read_layer(const Model& model, std::int64_t index, Pass& pass) {
  const Architecture& a = model.architecture;
  StoredLayer layer;
  layer.index = index;
  read_experts(model, layer, pass);
  read_router(model, layer, pass);
  if (a.shared_inter > 0)
    layer.shared = read_expert(model, model.layer_module(index, a.family->modules.shared), a.shared_inter, pass);
  if (a.shared_gated)
    layer.shared_gate = read_float_tensor(model, model.layer_module(index, a.family->modules.shared_gate) + ".weight",
                                          {1, a.hidden}, pass);
  refuse_unknown(model, layer, pass);
  return layer;
}

WeightFormat weight_format(const Model& model, const StoredLayer& layer, Pass& pass) {
  const std::vector<const StoredMatrix*> matrices = layer.routed();
  if (matrices.empty()) return WeightFormat::kBf16;
  const StoredMatrix& first = *matrices.front();
  for (const StoredMatrix* matrix : matrices)
    if (matrix->view.format != first.view.format) {
      pass.problems.add_unsupported(8, std::string(matrix->weight->name), model.file_of(*matrix->weight), "stored as ",
                                    dtype_name(matrix->dtype), " but ", first.weight->name, " as ",
                                    dtype_name(first.dtype), ", accepted: one format a layer");
      break;
    }
  return first.view.format;
}

void check_layer_scales(const Model& model, const StoredLayer& layer, Pass& pass) {
  for (const StoredMatrix* matrix : layer.routed())
    if (matrix->view.format == WeightFormat::kNvfp4) check_scales(model, *matrix, pass);
  if (!layer.shared) return;
  for (const auto& matrix : layer.shared->matrices)
    if (matrix && matrix->view.format == WeightFormat::kNvfp4) check_scales(model, *matrix, pass);
}

}  // namespace megamoe
