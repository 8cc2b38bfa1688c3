// The tensors of a model directory, whichever way they are spread over files.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/model_directory.h"
#include "checkpoint/safetensors.h"
#include "megamoe/tensor.h"

namespace megamoe {

// All tensors of a model: model.safetensors.index.json with its shards, or else model.safetensors, or else the only
// *.safetensors file. The index is authoritative: it says which shard a tensor is taken from.
class ModelFiles {
 public:
  struct Tensor {
    std::string_view name;
    ConstTensorView view;     // data may be unaligned; valid while the ModelFiles lives
    std::uint32_t shard = 0;  // place in shards()
  };

  // Opens and checks every header. Throws kBadFile naming the file: no model, a missing shard, a tensor that is not in
  // its shard, anything safetensors.h refuses.
  static ModelFiles open(const std::string& directory, ModelDirectoryOptions options = {});

  const ModelDirectory& directory() const noexcept { return directory_; }
  const std::vector<SafetensorsFile>& shards() const noexcept { return shards_; }
  const std::string& shard_name(std::uint32_t shard) const noexcept { return shard_names_[shard]; }

  const std::vector<Tensor>& tensors() const noexcept { return tensors_; }  // shard by shard, in order of their data
  const Tensor* find(std::string_view name) const noexcept;                 // nullptr when absent
  // Throws kBadFile for a name the model does not have.
  const Tensor& tensor(std::string_view name) const;
  std::uint64_t total_bytes() const noexcept;  // of all tensors

  // Oddities that are accepted, one sentence each: unlisted shards, a wrong total_size, a tensor in two shards.
  const std::vector<std::string>& notes() const noexcept { return notes_; }
  // Throws kBadFile when a shard was changed since open().
  void require_unchanged() const;

 private:
  explicit ModelFiles(ModelDirectory directory) : directory_(std::move(directory)) {}

  void open_indexed();
  void open_single(const std::string& name);
  void open_shard(const std::string& name);
  void note_unlisted_shards(const std::vector<std::string>& listed);
  void sort_by_name();

  ModelDirectory directory_;
  std::vector<std::string> shard_names_;
  std::vector<SafetensorsFile> shards_;
  std::vector<Tensor> tensors_;
  std::vector<std::uint32_t> by_name_;  // positions in tensors_, names ascending
  std::vector<std::string> notes_;
};

}  // namespace megamoe
