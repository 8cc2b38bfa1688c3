#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/shard_index.h"

namespace megamoe {

std::string format_shard_index(std::vector<std::pair<std::string, std::string>> weight_map, std::uint64_t total_size) {
  std::sort(weight_map.begin(), weight_map.end());
  // Joined by hand: nlohmann's ordered objects look each key up in linear time.
  std::string text = "{\n  \"metadata\": {\"total_size\": " + std::to_string(total_size) + "},\n  \"weight_map\": {";
  for (const auto& [tensor, shard] : weight_map) {
    text += text.back() == '{' ? "\n    " : ",\n    ";
    text.append(nlohmann::json(tensor).dump()).append(": ").append(nlohmann::json(shard).dump());
  }
  return text + "\n  }\n}\n";
}

}  // namespace megamoe
