// FILE:TENSOR arguments and the values behind them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "megamoe/tensor_file.h"

namespace megamoe::cli {

// "moe_io.safetensors:layers.0.mlp.input": the file ends at the last colon that leaves an existing file before it.
struct TensorArgument {
  std::string file;
  std::string tensor;
};

TensorArgument parse_tensor_argument(const std::string& option, const std::string& text);  // throws kInvalidArgument

// A [tokens, cols] tensor of BF16, F16 or F32; throws kBadFile naming file and tensor otherwise. `cols` is the model's
// hidden size.
HostTensor read_matrix(const TensorArgument& argument, std::int64_t cols);

std::vector<float> to_f32(const HostTensor& tensor);
std::vector<std::uint16_t> to_bf16(const HostTensor& tensor);  // rounds to nearest even where it has to

}  // namespace megamoe::cli
