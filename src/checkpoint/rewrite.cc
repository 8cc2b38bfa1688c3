#include "checkpoint/rewrite.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <future>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoint/shard_index.h"

namespace megamoe {
namespace {

// Other forms of the weights that people keep beside safetensors: they would not be those of the new model.
constexpr std::array<std::string_view, 7> kForeignWeights{".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"};

bool ends_with_one_of(std::string_view name, std::span<const std::string_view> suffixes) {
  return std::ranges::any_of(suffixes, [&](std::string_view suffix) { return name.ends_with(suffix); });
}

// Modules that keep their type, for the config: every ".weight" of two dimensions or more that is not quantised.
// lm_head is named even where it is tied to the embeddings and has no tensor.
std::vector<std::string> unquantised_modules(const Model& model, const Transform& transform) {
  std::set<std::string> modules{"lm_head"};
  for (const Tensor& tensor : model.files.tensors())
    if (tensor.name.ends_with(kPlainWeight) && tensor.view.shape.rank() >= 2 && !transform.quantised(tensor))
      modules.insert(std::string(tensor.name.substr(0, tensor.name.size() - kPlainWeight.size())));
  return {modules.begin(), modules.end()};
}

struct Shard {
  std::vector<TensorSpec> specs;
  std::vector<const Tensor*> copied;
  std::vector<const Tensor*> sources;
};

std::vector<Shard> plan_shards(const Model& model, const Transform& transform) {
  std::vector<Shard> shards(model.files.shards().size());
  for (const Tensor& tensor : model.files.tensors()) {
    Shard& shard = shards[tensor.shard];
    shard.sources.push_back(&tensor);
    if (std::optional<std::vector<TensorSpec>> outputs = transform.outputs(tensor)) {
      std::ranges::move(*outputs, std::back_inserter(shard.specs));
    } else {
      shard.copied.push_back(&tensor);
      shard.specs.push_back({std::string(tensor.name), tensor.view.dtype, tensor.view.shape});
    }
  }
  for (std::uint32_t at = 0; at < shards.size(); ++at)
    for (const Tensor* tensor : transform.foreign_sources(at)) shards[at].sources.push_back(tensor);
  return shards;
}

std::vector<ConstTensorView> views_of(const std::vector<const Tensor*>& tensors) {
  std::vector<ConstTensorView> views;
  for (const Tensor* tensor : tensors) views.push_back(tensor->view);
  return views;
}

SafetensorsMetadata metadata_of(const SafetensorsFile& file) {
  if (file.metadata().empty()) return {{"format", "pt"}};
  return file.metadata();
}

void copy_side_files(const Model& model, OutputDirectory& output, const std::vector<SideFile>& written,
                     RewriteReport& report) {
  for (const std::string& name : model.files.directory().file_names()) {
    // Shards and configs are written anew; of safetensors that are not shards ModelFiles has a note.
    const bool is_replaced = name == "config.json" || name == "hf_quant_config.json" || name == kShardIndexName;
    if (is_replaced || name.starts_with(".") || name.ends_with(".safetensors")) continue;
    if (ends_with_one_of(name, kForeignWeights)) {
      report.notes.push_back({0, "", name, "weights in another form: not copied"});
      continue;
    }
    output.copy_file(model.files.directory().open(name), name);
    report.files.push_back(name);
  }
  for (const auto& [name, text] : written) {
    output.write_file(name, text);
    report.files.push_back(name);
  }
}

}  // namespace

void rewrite(const Model& model, const std::string& out, const RewriteOptions& options, Transform& transform,
             RewriteReport& report) {
  const auto begin = std::chrono::steady_clock::now();
  if (options.resume && options.overwrite)
    throw Error(Code::kInvalidArgument, out, ": asked resume and overwrite, accepted: one of them");
  const ExistingOutput existing = options.resume      ? ExistingOutput::kResume
                                  : options.overwrite ? ExistingOutput::kOverwrite
                                                      : ExistingOutput::kRefuse;
  const std::vector<Shard> shards = plan_shards(model, transform);
  OutputDirectory output(out, model.files, existing, transform.options(), "megamoe " MEGAMOE_VERSION);

  Progress progress(options, model.files.total_bytes());
  std::vector<std::pair<std::string, std::string>> weight_map;
  std::vector<bool> is_finished(shards.size());
  std::uint64_t missing_bytes = 0;
  for (std::uint32_t at = 0; at < shards.size(); ++at) {
    const std::string& name = model.files.shard_name(at);
    is_finished[at] = output.is_finished(name, views_of(shards[at].sources));
    for (const TensorSpec& spec : shards[at].specs) {
      const std::uint64_t bytes = checked_tensor_bytes(spec.shape, spec.dtype, spec.name);
      report.output_bytes += bytes;
      if (!is_finished[at]) missing_bytes += bytes;
      weight_map.emplace_back(spec.name, name);
    }
  }
  output.require_space(missing_bytes);

  // A shard's file is made, and its blocks reserved, while the shard before it is written: one thread of the system
  // does that, and on tmpfs it takes a quarter of the time that all threads need to fill the file.
  const auto create = [&](std::uint32_t at) {
    return std::make_unique<SafetensorsWriter>(output, model.files.shard_name(at), shards[at].specs,
                                               metadata_of(model.files.shards()[at]));
  };
  std::future<std::unique_ptr<SafetensorsWriter>> next;

  for (std::uint32_t at = 0; at < shards.size(); ++at) {
    const std::string& name = model.files.shard_name(at);
    const SafetensorsFile& source = model.files.shards()[at];
    report.files.push_back(name);
    report.tensors_copied += static_cast<std::int64_t>(shards[at].copied.size());
    report.tensors_written += static_cast<std::int64_t>(shards[at].specs.size());
    if (is_finished[at]) {
      transform.look_at_finished(at, SafetensorsFile::open(output.target().path + "/" + name));
      progress.add(source.file().size() - source.data_begin(), name);
      continue;
    }
    const std::unique_ptr<SafetensorsWriter> writer = next.valid() ? next.get() : create(at);
    const auto following = std::find(is_finished.begin() + at + 1, is_finished.end(), false);
    if (following != is_finished.end())
      next = std::async(std::launch::async, create, static_cast<std::uint32_t>(following - is_finished.begin()));
    SourceDigests sources(shards[at].sources);
    for (const Tensor* tensor : shards[at].copied) {
      sources.set(*tensor, writer->write(tensor->name, tensor->view));
      progress.add(static_cast<std::uint64_t>(tensor->view.bytes()), tensor->name);
    }
    transform.write(at, *writer, sources, progress);
    source.require_unchanged();
    writer->finish(sources.complete());
  }

  nlohmann::ordered_json config = model.configs.config.json();
  remove_quantization(config);
  const WrittenQuant quant{.input_scales = transform.has_input_scales(),
                           .unquantised = unquantised_modules(model, transform)};
  copy_side_files(model, output, transform.dialect().write_config(quant, config), report);
  const bool has_index = model.files.directory().has(std::string(kShardIndexName));
  if (has_index) report.files.emplace_back(kShardIndexName);
  report.files.emplace_back("config.json");
  model.files.require_unchanged();
  output.finish(has_index ? format_shard_index(std::move(weight_map), report.output_bytes) : "", config.dump(2) + "\n");

  report.dialect = transform.dialect().name;
  report.input_bytes = model.files.total_bytes();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace megamoe
