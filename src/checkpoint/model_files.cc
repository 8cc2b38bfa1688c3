#include "checkpoint/model_files.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "checkpoint/quote.h"
#include "checkpoint/shard_index.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

constexpr char kSingleFileName[] = "model.safetensors";

std::vector<std::string> safetensors_names(const ModelDirectory& directory) {
  std::vector<std::string> names = directory.file_names();
  // Hidden ones are temporary files of writers.
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".safetensors") || name.front() == '.'; });
  return names;
}

}  // namespace

ModelFiles ModelFiles::open(const std::string& directory, ModelDirectoryOptions options) {
  ModelFiles model{ModelDirectory(directory, options)};
  if (model.directory_.has(std::string(kShardIndexName))) {
    model.open_indexed();
  } else if (model.directory_.has(kSingleFileName)) {
    model.open_single(kSingleFileName);
    model.note_unlisted_shards({kSingleFileName});
  } else {
    const std::vector<std::string> names = safetensors_names(model.directory_);
    if (names.size() != 1)
      throw Error(Code::kBadFile, directory, ": found ", names.size(), " .safetensors files and no ", kShardIndexName,
                  ", accepted: ", kShardIndexName, ", ", kSingleFileName, " or exactly one .safetensors file");
    model.open_single(names.front());
  }
  model.sort_by_name();
  return model;
}

void ModelFiles::open_shard(const std::string& name) {
  shards_.emplace_back(directory_.open(name));
  shard_names_.push_back(name);
  notes_.insert(notes_.end(), shards_.back().notes().begin(), shards_.back().notes().end());
}

void ModelFiles::open_single(const std::string& name) {
  open_shard(name);
  for (const TensorInfo& info : shards_[0].tensors())
    tensors_.push_back({.name = info.name, .view = shards_[0].view(info), .shard = 0});
}

void ModelFiles::open_indexed() {
  const MappedFile index_file = directory_.open(std::string(kShardIndexName));
  ShardIndex index = parse_shard_index(read_text(index_file, kMaxShardIndexBytes), index_file.path());
  notes_ = std::move(index.notes);
  shards_.reserve(index.shards.size());
  for (const std::string& name : index.shards) open_shard(name);

  std::sort(index.weight_map.begin(), index.weight_map.end());
  for (const auto& [name, shard] : index.weight_map)
    if (shards_[shard].find_info(name) == nullptr)
      throw Error(Code::kBadFile, index_file.path(), ": weight_map: tensor ", quote(name), " is not in its shard ",
                  quote(shard_names_[shard]));

  // By shard and by place in it; what the index maps elsewhere, or does not map, is left out with a note.
  for (std::uint32_t shard = 0; shard < shards_.size(); ++shard)
    for (const TensorInfo& info : shards_[shard].tensors()) {
      const auto mapped =
          std::lower_bound(index.weight_map.begin(), index.weight_map.end(), info.name,
                           [](const auto& entry, const std::string& wanted) { return entry.first < wanted; });
      if (mapped == index.weight_map.end() || mapped->first != info.name)
        notes_.push_back(shards_[shard].path() + ": tensor " + quote(info.name) +
                         " is not in the index and is not used");
      else if (mapped->second != shard)
        notes_.push_back(shards_[shard].path() + ": tensor " + quote(info.name) +
                         " is not used: the index takes it from " + quote(shard_names_[mapped->second]));
      else
        tensors_.push_back({.name = info.name, .view = shards_[shard].view(info), .shard = shard});
    }

  note_unlisted_shards(index.shards);
  if (index.total_size && *index.total_size != total_bytes())
    notes_.push_back(index_file.path() + ": metadata: total_size is " + std::to_string(*index.total_size) +
                     ", the tensors have " + std::to_string(total_bytes()) + " bytes");
}

void ModelFiles::note_unlisted_shards(const std::vector<std::string>& listed) {
  for (const std::string& name : safetensors_names(directory_))
    if (std::find(listed.begin(), listed.end(), name) == listed.end())
      notes_.push_back(directory_.path() + "/" + name + ": is not part of the model and is not read");
}

void ModelFiles::sort_by_name() {
  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return tensors_[a].name < tensors_[b].name; });
}

const ModelFiles::Tensor* ModelFiles::find(std::string_view name) const noexcept {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](std::uint32_t i, std::string_view wanted) { return tensors_[i].name < wanted; });
  return at == by_name_.end() || tensors_[*at].name != name ? nullptr : &tensors_[*at];
}

const ModelFiles::Tensor& ModelFiles::tensor(std::string_view name) const {
  const Tensor* found = find(name);
  if (found == nullptr) throw Error(Code::kBadFile, directory_.path(), ": the model has no tensor ", quote(name));
  return *found;
}

std::uint64_t ModelFiles::total_bytes() const noexcept {
  std::uint64_t total = 0;
  for (const Tensor& tensor : tensors_) total += static_cast<std::uint64_t>(tensor.view.bytes());
  return total;
}

void ModelFiles::require_unchanged() const {
  for (const SafetensorsFile& shard : shards_) shard.require_unchanged();
}

}  // namespace megamoe
