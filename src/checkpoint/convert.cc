// convert: NVFP4 from one dialect to another. Codes and block scales keep their bytes; names, scalars and configs
// change.
#include <cstring>
#include <unordered_map>

#include "checkpoint/layer.h"
#include "checkpoint/rewrite.h"

namespace megamoe {
namespace {

class Converter final : public Transform {
 public:
  Converter(const Model& model, const Dialect& to) : model_(model), from_(*model.dialect), to_(to) {
    for (const std::int64_t index : model.architecture.moe_layers) check_layer(index);
    // Not only experts: other linear layers may be NVFP4 too. The global scale's name tells them.
    for (const Tensor& tensor : model.files.tensors())
      if (tensor.name.ends_with(from_.global))
        add_module(std::string(tensor.name.substr(0, tensor.name.size() - from_.global.size())));
    pass_.problems.throw_if_any();
  }

  std::int64_t matrices() const noexcept { return matrices_; }
  std::uint64_t input_expert_bytes() const noexcept { return expert_bytes_; }

  void add_notes(std::vector<Finding>& notes) const {
    if (inexact_ > 0)
      notes.push_back({1, "", "",
                       std::to_string(inexact_) +
                           " scalars have no f32 reciprocal that gives them back: they are off by "
                           "one unit in the last place"});
  }

  std::vector<TensorSpec> outputs(const Tensor& tensor) const override {
    const auto found = renamed_.find(&tensor);
    if (found == renamed_.end()) return {};
    if (found->second.is_scalar) return {scalar_spec(to_, found->second.name)};
    return {{found->second.name, tensor.view.dtype, tensor.view.shape}};
  }
  std::vector<const Tensor*> foreign_sources(std::uint32_t) const override { return {}; }

  void write(std::uint32_t shard, SafetensorsWriter& writer, Progress& progress) override {
    for (const Tensor& tensor : model_.files.tensors()) {
      const auto found = renamed_.find(&tensor);
      if (tensor.shard != shard || found == renamed_.end()) continue;
      if (found->second.is_scalar) {
        const float stored = stored_scalar(to_, found->second.multiplier);
        writer.append(found->second.name, std::as_bytes(std::span(&stored, 1)));
      } else {
        writer.write(found->second.name, tensor.view);
      }
      progress.add(static_cast<std::uint64_t>(tensor.view.bytes()), tensor.name);
    }
  }
  void look_at_finished(std::uint32_t, const SafetensorsFile&) override {}

  const Dialect& dialect() const override { return to_; }
  bool has_input_scales() const override { return has_input_scales_; }
  bool quantised(const Tensor& weight) const override { return renamed_.contains(&weight); }
  std::string options() const override { return "convert dialect=" + std::string(to_.name); }

 private:
  struct Renamed {
    std::string name;
    bool is_scalar = false;
    float multiplier = 0.0f;
  };

  // What the loader would refuse is not copied into a new file either.
  void check_layer(std::int64_t index) {
    const StoredLayer layer = read_layer(model_, index, pass_);
    check_layer_scales(model_, layer, pass_);
    pass_.problems.throw_if_any();
    for (const StoredMatrix* matrix : layer.routed()) expert_bytes_ += matrix->bytes();
  }

  void add_module(const std::string& module) {
    ++matrices_;
    const auto require = [&](std::string_view suffix) -> const Tensor& {
      return model_.files.tensor(module + std::string(suffix));
    };
    renamed_[&require(from_.codes)] = {.name = module + std::string(to_.codes)};
    renamed_[&require(from_.sf)] = {.name = module + std::string(to_.sf)};
    add_scalar(require(from_.global), module + std::string(to_.global));
    if (const Tensor* input = model_.find(module + std::string(from_.input))) {
      has_input_scales_ = true;
      add_scalar(*input, module + std::string(to_.input));
    }
  }

  void add_scalar(const Tensor& tensor, std::string name) {
    const float multiplier = read_multiplier(model_, tensor, pass_);
    bool is_exact = true;
    stored_scalar(to_, multiplier, &is_exact);
    if (!is_exact) ++inexact_;
    renamed_[&tensor] = {.name = std::move(name), .is_scalar = true, .multiplier = multiplier};
  }

  const Model& model_;
  const Dialect& from_;
  const Dialect& to_;
  Pass pass_;
  std::unordered_map<const Tensor*, Renamed> renamed_;
  std::int64_t matrices_ = 0;
  std::int64_t inexact_ = 0;
  std::uint64_t expert_bytes_ = 0;
  bool has_input_scales_ = false;
};

void require_convertible(const Model& model, const Dialect& to, const std::string& dir) {
  if (model.dialect == &plain_dialect())
    throw Error(Code::kUnsupported, dir, ": is not quantised, accepted: a model in NVFP4 (quantize makes one)");
  if (model.dialect == &to) throw Error(Code::kInvalidArgument, dir, ": is in the dialect ", to.name, " already");
  if (model.quant.has_kv_cache_scheme)
    throw Error(Code::kUnsupported, dir, ": has scales for the KV cache, accepted: a model without");
  for (const QuantConfig::Group& group : model.quant.groups)
    if (group.quant.kind == ModuleQuant::Kind::kOther)
      throw Error(Code::kUnsupported, dir, ": has modules in ", group.quant.other, ", accepted: NVFP4 only");
}

}  // namespace

RewriteReport convert(const std::string& dir, const std::string& out, const RewriteOptions& options) {
  const Dialect& to = require_quantised_dialect(options.dialect);
  Findings problems, notes;
  const std::shared_ptr<const Model> model = open_model(dir, problems, notes);
  problems.throw_if_any();
  require_convertible(*model, to, dir);

  Converter converter(*model, to);
  RewriteReport report;
  rewrite(*model, out, options, converter, report);
  report.matrices = converter.matrices();
  report.input_expert_bytes = converter.input_expert_bytes();
  report.output_expert_bytes = converter.input_expert_bytes();
  for (const std::int64_t index : model->architecture.moe_layers) report.layers.emplace_back().index = index;
  for (Finding& note : notes.take()) report.notes.push_back(std::move(note));
  converter.add_notes(report.notes);
  return report;
}

}  // namespace megamoe
