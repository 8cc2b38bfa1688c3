#include "checkpoint/dequantize.h"

#include <algorithm>
#include <unordered_map>

#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"

namespace megamoe {
namespace {

class Dequantizer final : public Transform {
 public:
  Dequantizer(const Model& model, const Nvfp4Modules& modules) : model_(model) {
    for (const Nvfp4Module& module : modules.modules) {
      of_codes_.emplace(module.codes, &module);
      for (const Tensor* tensor : {module.sf, module.global, module.input})
        if (tensor != nullptr) absorbed_.emplace(tensor, &module);
    }
  }

  std::optional<std::vector<TensorSpec>> outputs(const Tensor& tensor) const override {
    if (absorbed_.contains(&tensor)) return std::vector<TensorSpec>{};
    const auto found = of_codes_.find(&tensor);
    if (found == of_codes_.end()) return std::nullopt;
    const Shape& shape = tensor.view.shape;
    return {{{found->second->name + std::string(kPlainWeight), DType::kBF16, {shape[0], shape[1] * 2}}}};
  }

  // Scales may lie in another shard than their codes.
  std::vector<const Tensor*> foreign_sources(std::uint32_t shard) const override {
    std::vector<const Tensor*> tensors;
    for (const auto& [tensor, module] : absorbed_)
      if (module->codes->shard == shard && tensor->shard != shard) tensors.push_back(tensor);
    std::ranges::sort(tensors, {}, &Tensor::name);  // a fixed order: it enters the source's digest
    return tensors;
  }

  void write(std::uint32_t shard, SafetensorsWriter& writer, SourceDigests& /*sources*/, Progress& progress) override {
    for (const Tensor& tensor : model_.files.tensors()) {
      const auto found = of_codes_.find(&tensor);
      if (tensor.shard != shard || found == of_codes_.end()) continue;
      write_module(*found->second, writer);
      progress.add(static_cast<std::uint64_t>(tensor.view.bytes()), tensor.name);
    }
  }
  void look_at_finished(std::uint32_t, const SafetensorsFile&) override {}

  const Dialect& dialect() const override { return plain_dialect(); }
  bool has_input_scales() const override { return false; }
  bool quantised(const Tensor&) const override { return false; }
  std::string options() const override { return "convert dialect=plain"; }

 private:
  void write_module(const Nvfp4Module& module, SafetensorsWriter& writer) {
    const auto rows = static_cast<std::size_t>(module.codes->view.shape[0]);
    const auto cols = static_cast<std::size_t>(module.codes->view.shape[1]) * 2;
    const auto* codes = static_cast<const std::uint8_t*>(module.codes->view.data);
    const auto* sf = static_cast<const std::uint8_t*>(module.sf->view.data);
    row_.resize(cols);
    bits_.resize(cols);
    for (std::size_t r = 0; r < rows; ++r) {
      dequantize_nvfp4_row(codes + r * cols / 2, sf + r * cols / kNvfp4Block, module.global_scale, row_);
      std::ranges::transform(row_, bits_.begin(), bf16_from_float);
      writer.append(module.name + std::string(kPlainWeight), std::as_bytes(std::span(bits_)));
    }
  }

  const Model& model_;
  std::unordered_map<const Tensor*, const Nvfp4Module*> of_codes_;
  std::unordered_map<const Tensor*, const Nvfp4Module*> absorbed_;  // tensors that the output has no counterpart of
  std::vector<float> row_;
  std::vector<std::uint16_t> bits_;
};

}  // namespace

std::unique_ptr<Transform> make_dequantizer(const Model& model, const Nvfp4Modules& modules) {
  return std::make_unique<Dequantizer>(model, modules);
}

}  // namespace megamoe
