#include "tensor_argument.h"

#include <cstring>
#include <filesystem>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/fp16.h"

namespace megamoe::cli {
namespace {

template <class T>
T element(const HostTensor& tensor, std::size_t i) {
  T value;
  std::memcpy(&value, tensor.data.data() + i * sizeof(T), sizeof(T));
  return value;
}

float to_float(const HostTensor& tensor, std::size_t i) {
  switch (tensor.dtype) {
    case DType::kBF16:
      return bf16_to_float(element<std::uint16_t>(tensor, i));
    case DType::kF16:
      return fp16_to_float(element<std::uint16_t>(tensor, i));
    default:
      return element<float>(tensor, i);
  }
}

}  // namespace

TensorArgument parse_tensor_argument(const std::string& option, const std::string& text) {
  const std::size_t last = text.rfind(':');
  if (last == std::string::npos || last == 0 || last + 1 == text.size())
    throw Error(Code::kInvalidArgument, option, ": asked '", text, "', accepted: FILE:TENSOR");
  for (std::size_t at = last; at != std::string::npos && at != 0; at = text.rfind(':', at - 1))
    if (std::filesystem::is_regular_file(text.substr(0, at))) return {text.substr(0, at), text.substr(at + 1)};
  return {text.substr(0, last), text.substr(last + 1)};
}

HostTensor read_matrix(const TensorArgument& argument, std::int64_t cols) {
  HostTensor tensor = read_tensor(argument.file, argument.tensor);
  const bool type_fits = tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF16 || tensor.dtype == DType::kF32;
  if (!type_fits || tensor.shape.rank() != 2 || tensor.shape[1] != cols)
    throw Error(Code::kBadFile, argument.file, ": ", argument.tensor, ": expected [tokens, ", cols,
                "] of BF16, F16 or F32, found ", tensor.shape.to_string(), " ", dtype_name(tensor.dtype));
  return tensor;
}

std::vector<float> to_f32(const HostTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = to_float(tensor, i);
  return values;
}

std::vector<std::uint16_t> to_bf16(const HostTensor& tensor) {
  std::vector<std::uint16_t> values(static_cast<std::size_t>(tensor.shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = tensor.dtype == DType::kBF16 ? element<std::uint16_t>(tensor, i) : bf16_from_float(to_float(tensor, i));
  return values;
}

}  // namespace megamoe::cli
