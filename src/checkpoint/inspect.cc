// inspect: everything that the loader checks, and what only others would stumble over, in one pass over all layers.
#include <set>

#include "base/threads.h"
#include "checkpoint/layer.h"

namespace megamoe {
namespace {

constexpr int kMostOfOneKind = 8;  // findings of one pitfall that are listed for a layer; the rest are counted

struct LayerResult {
  LayerReport report;
  Pass pass;
  std::int64_t weights = 0;  // elements of the matrices that could be read
};

// Pitfall 3: the config promises input scales that are not there.
void check_input_scales(const Model& model, const StoredLayer& layer, Pass& pass) {
  for (const StoredMatrix* matrix : layer.routed())
    if (matrix->global != nullptr && matrix->input == nullptr && model.quant.of(matrix->module).input_scales)
      pass.problems.add(3, matrix->module + std::string(model.dialect->input), model.file_of(*matrix->weight),
                        "missing, but the config says that activations are quantised with it");
}

// Pitfall 7: the config would have a loader look for a quantised router.
void check_router_excluded(const Model& model, const StoredLayer& layer, Pass& pass) {
  const std::string module = model.layer_module(layer.index, model.architecture.family->modules.router);
  const Tensor* weight = model.find(module + std::string(kPlainWeight));
  if (weight != nullptr && !layer.router.empty() && model.quant.of(module).kind != ModuleQuant::Kind::kNone)
    pass.problems.add(7, std::string(weight->name), model.file_of(*weight), "stored as ",
                      dtype_name(weight->view.dtype), ", but the config does not exclude ", module);
}

std::string_view format_name(const StoredMatrix& matrix) {
  return matrix.view.format == WeightFormat::kNvfp4 ? "nvfp4" : dtype_name(matrix.dtype);
}

std::string format_of(const std::vector<const StoredMatrix*>& matrices) {
  std::set<std::string_view> names;
  for (const StoredMatrix* matrix : matrices) names.insert(format_name(*matrix));
  if (names.empty()) return "unreadable";
  return names.size() == 1 ? std::string(*names.begin()) : "mixed";
}

void count_tensors(const Model& model, const StoredLayer& layer, LayerResult& result) {
  const std::string experts = model.layer_module(layer.index, model.architecture.family->modules.experts) + ".";
  if (const auto block = model.blocks.find(layer.index); block != model.blocks.end())
    for (const Tensor* tensor : block->second) {
      if (!tensor->name.starts_with(experts)) continue;
      ++result.report.expert_tensors;
      result.report.expert_bytes += static_cast<std::uint64_t>(tensor->view.bytes());
    }
  for (const StoredMatrix* matrix : layer.routed()) result.weights += matrix->view.rows * matrix->view.cols;
  const std::string first =
      model.expert_module(layer.index, 0) + "." + std::string(model.architecture.family->modules.gate);
  const ModuleQuant quant = model.quant.of(first);
  const bool is_nvfp4 = quant.kind == ModuleQuant::Kind::kNvfp4;
  result.report.expert_tensors_expected =
      model.architecture.experts * 3 * (is_nvfp4 ? (quant.input_scales ? 4 : 3) : 1);
}

LayerResult inspect_layer(const Model& model, std::int64_t index) {
  LayerResult result;
  Pass& pass = result.pass;
  const StoredLayer layer = read_layer(model, index, pass);
  if (pass.problems.empty()) weight_format(model, layer, pass);
  check_layer_scales(model, layer, pass);
  check_input_scales(model, layer, pass);
  check_router_excluded(model, layer, pass);
  note_oddities(model, layer, pass);

  result.report.index = index;
  result.report.weights = format_of(layer.routed());
  if (layer.shared) {
    std::vector<const StoredMatrix*> shared;
    for (const auto& matrix : layer.shared->matrices)
      if (matrix) shared.push_back(&*matrix);
    result.report.shared = format_of(shared);
  }
  count_tensors(model, layer, result);
  pass.problems.limit_each(kMostOfOneKind);
  pass.notes.limit_each(kMostOfOneKind);
  return result;
}

void check_dense_layers(const Model& model, Findings& problems) {
  const std::string experts = std::string(model.architecture.family->modules.experts) + ".";
  const std::set<std::int64_t> moe(model.architecture.moe_layers.begin(), model.architecture.moe_layers.end());
  for (const auto& [layer, tensors] : model.blocks) {
    if (moe.contains(layer)) continue;
    for (const Tensor* tensor : tensors)
      if (split_layer_name(tensor->name)->rest.starts_with(experts)) {
        problems.add(10, std::string(tensor->name), model.file_of(*tensor),
                     "an expert, but the config says that layer ", layer, " is dense");
        break;
      }
  }
}

// Pitfall 16, one finding for each layer that predicts further tokens. Declared by the config it is a note: megamoe
// leaves these layers alone.
void check_mtp(const Model& model, std::string_view main_format, Findings& problems, Findings& notes) {
  std::set<std::pair<std::string_view, std::int64_t>> seen;
  for (const Tensor* tensor : model.mtp) {
    const LayerName name = *split_layer_name(tensor->name);
    std::string_view module = tensor->name;
    for (const std::string_view suffix : {model.dialect->codes, kPlainWeight})
      if (!suffix.empty() && module.ends_with(suffix)) module.remove_suffix(suffix.size());
    if (module == tensor->name) continue;
    const bool is_nvfp4 = tensor->view.dtype == DType::kU8;
    const bool is_declared = (model.quant.of(module).kind == ModuleQuant::Kind::kNvfp4) == is_nvfp4;
    const std::string_view format = is_nvfp4 ? "nvfp4" : dtype_name(tensor->view.dtype);
    if (format == main_format || !seen.emplace(name.prefix, name.layer).second) continue;
    (is_declared ? notes : problems)
        .add(16, std::string(tensor->name), model.file_of(*tensor), "experts of this multi-token-prediction layer are ",
             format, ", those of the other layers ", main_format,
             is_declared ? ", as the config says" : ", and the config does not say so");
  }
}

InspectReport describe(const Model& model, const std::string& dir) {
  InspectReport report;
  report.dir = dir;
  const Architecture& a = model.architecture;
  if (a.family != nullptr) report.family = a.family->name;
  if (model.dialect != nullptr) report.dialect = model.dialect->name;
  report.prefix = model.prefix;
  if (a.has_sizes) {
    report.problem.hidden = a.hidden;
    report.problem.inter = a.inter;
    report.problem.experts = a.experts;
    report.problem.top_k = a.top_k;
    report.problem.activation = a.activation;
    report.problem.shared = {.inter = a.shared_inter, .weights = WeightFormat::kBf16, .gated = a.shared_gated};
    report.routing = a.routing.to_string();
  }
  for (std::uint32_t shard = 0; shard < model.files.shards().size(); ++shard) {
    const SafetensorsFile& file = model.files.shards()[shard];
    report.files.push_back(
        {model.files.shard_name(shard), file.file().size(), static_cast<std::int64_t>(file.tensors().size())});
  }
  report.tensors = static_cast<std::int64_t>(model.files.tensors().size());
  report.bytes = model.files.total_bytes();
  return report;
}

}  // namespace

InspectReport inspect(const std::string& dir) {
  Findings problems, notes;
  const std::shared_ptr<const Model> model = open_model(dir, problems, notes);
  InspectReport report = describe(*model, dir);

  if (model->is_readable()) {
    const std::vector<std::int64_t>& layers = model->architecture.moe_layers;
    std::vector<LayerResult> results(layers.size());
    Threads().each(static_cast<std::int64_t>(layers.size()), [&](std::int64_t step, int) {
      const auto at = static_cast<std::size_t>(step);
      results[at] = inspect_layer(*model, layers[at]);
    });

    std::int64_t weights = 0;
    for (LayerResult& result : results) {
      report.expert_bytes += result.report.expert_bytes;
      weights += result.weights;
      problems.append(std::move(result.pass.problems));
      notes.append(std::move(result.pass.notes));
      report.layers.push_back(std::move(result.report));
    }
    if (weights > 0)
      report.bits_per_expert_weight = 8.0 * static_cast<double>(report.expert_bytes) / static_cast<double>(weights);
    if (!report.layers.empty()) {
      report.problem.weights = report.layers[0].weights == "nvfp4" ? WeightFormat::kNvfp4 : WeightFormat::kBf16;
      if (report.layers[0].shared == "nvfp4") report.problem.shared.weights = WeightFormat::kNvfp4;
      check_mtp(*model, report.layers[0].weights, problems, notes);
    }
    check_dense_layers(*model, problems);
  }
  report.problems = problems.take();
  report.notes = notes.take();
  return report;
}

}  // namespace megamoe
