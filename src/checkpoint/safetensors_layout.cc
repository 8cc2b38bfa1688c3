#include "checkpoint/safetensors_layout.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/quote.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

std::string json_string(const std::string& text, const std::string& file) {
  try {
    return nlohmann::json(text).dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(Code::kInvalidArgument, file, ": found name ", quote(text), ", accepted: valid UTF-8");
  }
}

}  // namespace

SafetensorsLayout layout_safetensors(std::vector<TensorSpec> tensors, const SafetensorsMetadata& metadata,
                                     const std::string& file) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const int a_bits = dtype_bits(a.dtype), b_bits = dtype_bits(b.dtype);
    return a_bits != b_bits ? a_bits > b_bits : a.name < b.name;
  });

  // Fields are joined here because nlohmann's ordered objects look each key up in linear time; it still writes each
  // value.
  SafetensorsLayout layout;
  std::string json = R"({"__metadata__":{)";
  for (const auto& [key, value] : metadata) {
    if (json.back() != '{') json += ',';
    json.append(json_string(key, file)).append(":").append(json_string(value, file));
  }
  json += '}';
  for (const TensorSpec& tensor : tensors) {
    const std::uint64_t begin = layout.data_bytes;
    layout.data_bytes +=
        checked_tensor_bytes(tensor.shape, tensor.dtype, file + ": tensor " + quote(tensor.name) + ": ");
    const nlohmann::ordered_json value = {
        {"dtype", dtype_name(tensor.dtype)},
        {"shape", std::vector(tensor.shape.dims().begin(), tensor.shape.dims().end())},
        {"data_offsets", {begin, layout.data_bytes}}};
    json.append(",").append(json_string(tensor.name, file)).append(":").append(value.dump());
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');

  for (std::size_t i = 0; i < kSafetensorsLengthBytes; ++i)
    layout.prefix += static_cast<char>(json.size() >> (8 * i) & 0xff);
  layout.prefix += json;
  layout.tensors = parse_safetensors_header(std::move(json), layout.data_bytes, file).tensors;
  return layout;
}

}  // namespace megamoe
