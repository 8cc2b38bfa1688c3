#include "golden/golden_file.h"

#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>

namespace megamoe::test {

GoldenFile::GoldenFile() {
  std::ifstream file(std::string(MEGAMOE_SOURCE_DIR) + "/tests/golden/seed_golden.safetensors", std::ios::binary);
  bytes_.assign(std::istreambuf_iterator<char>(file), {});
  std::uint64_t header_bytes = 0;
  if (bytes_.size() < sizeof header_bytes) throw std::runtime_error("golden file is missing");
  std::memcpy(&header_bytes, bytes_.data(), sizeof header_bytes);
  const char* const begin = bytes_.data() + sizeof header_bytes;
  const char* const data = begin + header_bytes;
  const auto header = nlohmann::json::parse(begin, data);
  for (const auto& [name, info] : header.items()) {
    ConstTensorView view;
    if (!parse_dtype(info.at("dtype").get<std::string>(), &view.dtype)) throw std::runtime_error(name);
    view.shape = Shape(std::span<const std::int64_t>(info.at("shape").get<std::vector<std::int64_t>>()));
    view.data = data + info.at("data_offsets").at(0).get<std::size_t>();
    tensors_.emplace(name, view);
  }
}

std::vector<std::uint8_t> GoldenFile::bytes(const std::string& name) const {
  const ConstTensorView tensor = view(name);
  const auto* begin = static_cast<const std::uint8_t*>(tensor.data);
  return {begin, begin + tensor.bytes()};
}

float GoldenFile::scalar(const std::string& name) const {
  float value = 0;
  std::memcpy(&value, view(name).data, sizeof value);
  return value;
}

}  // namespace megamoe::test
