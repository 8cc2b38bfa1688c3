#include "quant/row_reader.h"

#include <cstring>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/fp16.h"

namespace megamoe {
namespace {

template <float (*kToFloat)(std::uint16_t)>
void read_half_words(const std::byte* data, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, data + 2 * i, sizeof bits);
    out[i] = kToFloat(bits);
  }
}

}  // namespace

bool is_float_source(DType dtype) noexcept {
  return dtype == DType::kBF16 || dtype == DType::kF16 || dtype == DType::kF32;
}

void require_float_source(std::string_view what, DType dtype) {
  if (!is_float_source(dtype))
    throw Error(Code::kInvalidArgument, what, ": found type ", dtype_name(dtype), ", accepted: BF16, F16, F32");
}

void read_floats(const void* data, DType dtype, std::int64_t first, std::int64_t count, float* out) noexcept {
  const std::byte* begin = static_cast<const std::byte*>(data) + first * dtype_bits(dtype) / 8;
  if (dtype == DType::kBF16)
    read_half_words<bf16_to_float>(begin, count, out);
  else if (dtype == DType::kF16)
    read_half_words<fp16_to_float>(begin, count, out);
  else if (count > 0)
    std::memcpy(out, begin, static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace megamoe
