// Input: two bytes, the size of the data that follows the header, then the header's JSON.
//
// What is accepted must be JSON for another parser too, lie inside the data, and survive being written and read again.
#include <nlohmann/json.hpp>

#include "check.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/safetensors_layout.h"
#include "megamoe/error.h"

namespace {

using namespace megamoe;

void check_accepted(const std::string& json, const SafetensorsHeader& header, std::uint64_t data_bytes) {
  FUZZ_CHECK(nlohmann::json::accept(json));
  std::uint64_t covered = 0;
  std::vector<TensorSpec> specs;
  for (const TensorInfo& tensor : header.tensors) {
    FUZZ_CHECK(tensor.begin == covered && tensor.end >= tensor.begin);
    covered = tensor.end;
    const ConstTensorView view{nullptr, tensor.dtype, tensor.shape};
    FUZZ_CHECK(static_cast<std::uint64_t>(view.bytes()) == tensor.bytes());
    specs.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  FUZZ_CHECK(covered == data_bytes);

  const SafetensorsLayout layout = layout_safetensors(specs, header.metadata, "f");
  FUZZ_CHECK(layout.data_bytes == data_bytes && layout.tensors.size() == header.tensors.size());
  const SafetensorsHeader again =
      parse_safetensors_header(layout.prefix.substr(kSafetensorsLengthBytes), layout.data_bytes, "f");
  FUZZ_CHECK(again.metadata == header.metadata && again.notes.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const auto first = bytes.first(std::min<std::size_t>(size, kSafetensorsLengthBytes));
    FUZZ_CHECK(checked_header_length(first, size, "f") <= size - kSafetensorsLengthBytes);
  } catch (const Error&) {
  }
  if (size < 2) return 0;
  const std::uint64_t data_bytes = data[0] + 256u * data[1];
  const std::string json(reinterpret_cast<const char*>(data) + 2, size - 2);
  try {
    const SafetensorsHeader header = parse_safetensors_header(json, data_bytes, "f");
    check_accepted(json, header, data_bytes);
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() == Code::kBadFile);
  }
  return 0;
}
