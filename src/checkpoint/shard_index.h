// model.safetensors.index.json: which shard holds each tensor of a model.
//
//   {"metadata": {"total_size": BYTES, ...}, "weight_map": {"tensor": "model-00001-of-00002.safetensors", ...}}
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace megamoe {

inline constexpr std::string_view kShardIndexName = "model.safetensors.index.json";
inline constexpr std::uint64_t kMaxShardIndexBytes = 256'000'000;
inline constexpr std::size_t kMaxIndexedTensors = std::size_t{1} << 22;  // of all shards together

struct ShardIndex {
  std::vector<std::string> shards;  // names ascending, each once
  // Tensor and its shard's place in `shards`; in file order.
  std::vector<std::pair<std::string, std::uint32_t>> weight_map;
  std::optional<std::uint64_t> total_size;  // bytes of all tensors
  std::vector<std::string> notes;           // oddities that are accepted: one sentence each
};

// True for a name that can only mean a file of the directory it is looked up in: one path component, no '/', '\' or
// control character, not "." or "..".
bool is_plain_file_name(std::string_view name) noexcept;

// Checks the text by the rules of strict_json.h, and each shard name by is_plain_file_name and the suffix .safetensors.
// Opens nothing. Throws kBadFile: "<file>: byte B: reason, found, accepted".
ShardIndex parse_shard_index(std::string json, const std::string& file);

// The text of model.safetensors.index.json. `weight_map` is (tensor, shard file name), in any order.
std::string format_shard_index(std::vector<std::pair<std::string, std::string>> weight_map, std::uint64_t total_size);

}  // namespace megamoe
