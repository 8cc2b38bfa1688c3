// Input: the text of model.safetensors.index.json.
//
// What is accepted must be JSON for another parser too, name only files of the directory, and survive being written
// again.
#include <nlohmann/json.hpp>

#include "check.h"
#include "checkpoint/shard_index.h"
#include "megamoe/error.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace megamoe;
  const std::string json(reinterpret_cast<const char*>(data), size);
  ShardIndex index;
  try {
    index = parse_shard_index(json, "f");
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() == Code::kBadFile);
    return 0;
  }
  FUZZ_CHECK(nlohmann::json::accept(json));
  for (const std::string& shard : index.shards)
    FUZZ_CHECK(is_plain_file_name(shard) && shard.ends_with(".safetensors") && shard.find('/') == std::string::npos);
  std::vector<std::pair<std::string, std::string>> weight_map;
  for (const auto& [tensor, shard] : index.weight_map) {
    FUZZ_CHECK(shard < index.shards.size());
    weight_map.emplace_back(tensor, index.shards[shard]);
  }
  const ShardIndex again = parse_shard_index(format_shard_index(weight_map, index.total_size.value_or(0)), "f");
  FUZZ_CHECK(again.shards == index.shards && again.weight_map.size() == index.weight_map.size());
  return 0;
}
