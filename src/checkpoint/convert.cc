// convert: NVFP4 from one dialect to another. Codes and block scales keep their bytes; names, scalars and configs
// change. To the plain dialect: dequantize.h.
#include <unordered_map>

#include "checkpoint/dequantize.h"
#include "checkpoint/nvfp4_modules.h"
#include "checkpoint/rewrite.h"

namespace megamoe {
namespace {

class Converter final : public Transform {
 public:
  Converter(const Model& model, const Dialect& to, const Nvfp4Modules& modules) : model_(model), to_(to) {
    for (const Nvfp4Module& module : modules.modules) {
      renamed_[module.codes] = {.name = module.name + std::string(to_.codes)};
      renamed_[module.sf] = {.name = module.name + std::string(to_.sf)};
      add_scalar(*module.global, module.global_scale, module.name + std::string(to_.global));
      if (module.input == nullptr) continue;
      has_input_scales_ = true;
      add_scalar(*module.input, module.input_scale, module.name + std::string(to_.input));
    }
  }

  void add_notes(std::vector<Finding>& notes) const {
    if (inexact_ > 0)
      notes.push_back({1, "", "",
                       std::to_string(inexact_) +
                           " scalars have no f32 reciprocal that gives them back: they are off by "
                           "one unit in the last place"});
  }

  std::optional<std::vector<TensorSpec>> outputs(const Tensor& tensor) const override {
    const auto found = renamed_.find(&tensor);
    if (found == renamed_.end()) return std::nullopt;
    if (found->second.is_scalar) return {{scalar_spec(to_, found->second.name)}};
    return {{{found->second.name, tensor.view.dtype, tensor.view.shape}}};
  }
  std::vector<const Tensor*> foreign_sources(std::uint32_t) const override { return {}; }

  void write(std::uint32_t shard, SafetensorsWriter& writer, SourceDigests& sources, Progress& progress) override {
    for (const Tensor& tensor : model_.files.tensors()) {
      const auto found = renamed_.find(&tensor);
      if (tensor.shard != shard || found == renamed_.end()) continue;
      if (found->second.is_scalar) {
        const float stored = stored_scalar(to_, found->second.multiplier);
        writer.append(found->second.name, std::as_bytes(std::span(&stored, 1)));
      } else {
        sources.set(tensor, writer.write(found->second.name, tensor.view));
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

  void add_scalar(const Tensor& tensor, float multiplier, std::string name) {
    bool is_exact = true;
    stored_scalar(to_, multiplier, &is_exact);
    if (!is_exact) ++inexact_;
    renamed_[&tensor] = {.name = std::move(name), .is_scalar = true, .multiplier = multiplier};
  }

  const Model& model_;
  const Dialect& to_;
  std::unordered_map<const Tensor*, Renamed> renamed_;
  std::int64_t inexact_ = 0;
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
  const Dialect* to = find_dialect(options.dialect);
  if (to == nullptr) {
    std::string accepted;
    for (const std::string_view name : dialect_names()) accepted += (accepted.empty() ? "" : ", ") + std::string(name);
    throw Error(Code::kInvalidArgument, "dialect: asked ", options.dialect, ", accepted: ", accepted);
  }
  Findings problems, notes;
  const std::shared_ptr<const Model> model = open_model(dir, problems, notes);
  problems.throw_if_any();
  require_convertible(*model, *to, dir);

  const Nvfp4Modules modules = read_nvfp4_modules(*model);
  RewriteReport report;
  report.matrices = static_cast<std::int64_t>(modules.modules.size());
  report.input_expert_bytes = modules.expert_bytes;
  if (to == &plain_dialect()) {
    rewrite(*model, out, options, *make_dequantizer(*model, modules), report);
    const Architecture& a = model->architecture;
    report.output_expert_bytes = static_cast<std::uint64_t>(a.moe_layers.size()) *
                                 static_cast<std::uint64_t>(a.experts * 3 * a.hidden * a.inter * 2);
  } else {
    Converter converter(*model, *to, modules);
    rewrite(*model, out, options, converter, report);
    report.output_expert_bytes = modules.expert_bytes;
    converter.add_notes(report.notes);
  }
  for (const std::int64_t index : model->architecture.moe_layers) report.layers.emplace_back().index = index;
  for (Finding& note : notes.take()) report.notes.push_back(std::move(note));
  return report;
}

}  // namespace megamoe
