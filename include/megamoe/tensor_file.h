// Single tensors in safetensors files: hidden states in, outputs out.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "megamoe/tensor.h"

namespace megamoe {

// A tensor with its own memory.
struct HostTensor {
  DType dtype = DType::kU8;
  Shape shape;
  std::vector<std::byte> data;

  ConstTensorView view() const noexcept { return {data.data(), dtype, shape}; }
};

// Throws kBadFile where the file is missing or malformed, or has no such tensor (the sentence names what it has).
HostTensor read_tensor(const std::string& path, const std::string& name);

struct NamedTensor {
  std::string name;
  ConstTensorView view;
};

// Writes a safetensors file that appears complete or not at all; a file that had this name is replaced. Throws kBadFile
// where the system refuses.
void write_tensor_file(const std::string& path, std::span<const NamedTensor> tensors);

}  // namespace megamoe
