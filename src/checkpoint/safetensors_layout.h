// Where the tensors of a new safetensors file go.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/safetensors_header.h"
#include "megamoe/tensor.h"

namespace megamoe {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kU8;
  Shape shape;

  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

struct SafetensorsLayout {
  std::string prefix;               // length and header, padded with spaces to a multiple of 8 bytes
  std::vector<TensorInfo> tensors;  // in order of their data: widest elements first, then by name
  std::uint64_t data_bytes = 0;

  std::uint64_t file_bytes() const noexcept { return prefix.size() + data_bytes; }
};

using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

// The order keeps every tensor aligned to its element. The same specs give the same bytes, in whatever order they come.
// Throws what parse_safetensors_header throws for a header that a strict reader would refuse (`file` names it):
// duplicate names, control characters, too many tensors.
SafetensorsLayout layout_safetensors(std::vector<TensorSpec> tensors, const SafetensorsMetadata& metadata,
                                     const std::string& file);

}  // namespace megamoe
