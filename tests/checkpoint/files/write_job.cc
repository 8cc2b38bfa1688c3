#include "checkpoint/files/write_job.h"

#include <filesystem>

#include "checkpoint/content_digest.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/model_files.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/shard_index.h"

namespace megamoe::test {

void write_source_model(const std::string& directory, unsigned char seed) {
  std::filesystem::create_directories(directory);
  std::vector<std::pair<std::string, std::string>> weight_map;
  std::uint64_t total_bytes = 0;
  for (const char* shard : {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}) {
    const std::string prefix = std::string(shard).substr(6, 5) + ".";
    const SafetensorsLayout layout = layout_safetensors({{prefix + "codes", DType::kU8, {24, 100}},
                                                         {prefix + "scale", DType::kF8E4M3, {24, 10}},
                                                         {prefix + "global", DType::kF32, {}},
                                                         {prefix + "empty", DType::kBF16, {0, 4}}},
                                                        {{"format", "pt"}}, shard);
    std::string bytes = layout.prefix;
    for (std::uint64_t i = 0; i < layout.data_bytes; ++i) bytes += static_cast<char>(i * 7 + seed);
    write_bytes(directory + "/" + shard, bytes);
    for (const TensorInfo& tensor : layout.tensors) weight_map.emplace_back(tensor.name, shard);
    total_bytes += layout.data_bytes;
  }
  write_bytes(directory + "/model.safetensors.index.json", format_shard_index(weight_map, total_bytes));
  write_bytes(directory + "/config.json", R"({"model_type": "none"})");
  write_bytes(directory + "/tokenizer.json", std::string(3000, 't'));
}

void run_write_job(const std::string& input, const std::string& output, ExistingOutput existing, FileOps& ops,
                   const std::string& options) {
  const ModelFiles source = ModelFiles::open(input);
  OutputDirectory out(output, source, existing, options, "write_job 1", ops);
  out.require_space(10'000);
  std::vector<std::pair<std::string, std::string>> weight_map;
  for (std::uint32_t i = 0; i < source.shards().size(); ++i) {
    const SafetensorsFile& shard = source.shards()[i];
    std::vector<TensorSpec> specs;
    std::vector<ConstTensorView> views;
    for (const TensorInfo& tensor : shard.tensors()) {
      specs.push_back({tensor.name, tensor.dtype, tensor.shape});
      views.push_back(shard.view(tensor));
      weight_map.emplace_back(tensor.name, source.shard_name(i));
    }
    if (out.is_finished(source.shard_name(i), views)) continue;
    SafetensorsWriter writer(out, source.shard_name(i), specs);
    for (std::size_t t = views.size(); t-- > 0;) {  // last first, in two pieces: any order will do
      const std::span all(static_cast<const std::byte*>(views[t].data), static_cast<std::size_t>(views[t].bytes()));
      writer.append(specs[t].name, all.first(all.size() / 3));
      writer.append(specs[t].name, all.subspan(all.size() / 3));
    }
    writer.finish(tensor_digests(views));
  }
  source.require_unchanged();
  out.copy_file(source.directory().open("tokenizer.json"), "tokenizer.json");
  out.finish(format_shard_index(weight_map, source.total_bytes()), "{\"options\": \"" + options + "\"}\n");
}

std::map<std::string, std::string> snapshot(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    files[entry.path().filename().string()] = entry.is_directory() ? "<directory>" : read_bytes(entry.path().string());
  return files;
}

}  // namespace megamoe::test
