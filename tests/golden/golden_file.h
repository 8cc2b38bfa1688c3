// Reads tests/golden/seed_golden.safetensors: inputs and outputs of the Python program that this project grew from,
// as that program wrote them on a CPU. A minimal reader of its own, so that these bytes check the library, not the
// library's file reader.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "megamoe/tensor.h"

namespace megamoe::test {

class GoldenFile {
 public:
  GoldenFile() {
    std::ifstream file(std::string(MEGAMOE_SOURCE_DIR) + "/tests/golden/seed_golden.safetensors", std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    std::uint64_t header_bytes = 0;
    if (bytes_.size() < sizeof header_bytes) throw std::runtime_error("golden file is missing");
    std::memcpy(&header_bytes, bytes_.data(), sizeof header_bytes);
    data_begin_ = sizeof header_bytes + header_bytes;
    header_ = nlohmann::json::parse(bytes_.begin() + sizeof header_bytes,
                                    bytes_.begin() + static_cast<std::ptrdiff_t>(data_begin_));
  }

  // Throws for a name that the file does not have: a case that vanished must not pass.
  ConstTensorView view(const std::string& name) const {
    const nlohmann::json& info = header_.at(name);
    ConstTensorView view;
    if (!parse_dtype(info.at("dtype").get<std::string>(), &view.dtype)) throw std::runtime_error(name);
    view.shape = Shape(std::span<const std::int64_t>(info.at("shape").get<std::vector<std::int64_t>>()));
    view.data = bytes_.data() + data_begin_ + info.at("data_offsets").at(0).get<std::size_t>();
    return view;
  }

  std::vector<std::uint8_t> bytes(const std::string& name) const {
    const ConstTensorView tensor = view(name);
    const auto* begin = static_cast<const std::uint8_t*>(tensor.data);
    return {begin, begin + tensor.bytes()};
  }

  float scalar(const std::string& name) const {
    float value = 0;
    std::memcpy(&value, view(name).data, sizeof value);
    return value;
  }

 private:
  std::vector<char> bytes_;
  std::size_t data_begin_ = 0;
  nlohmann::json header_;
};

}  // namespace megamoe::test
