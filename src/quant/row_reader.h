// Elements of a checkpoint tensor as floats.
#pragma once

#include <cstdint>
#include <string_view>

#include "megamoe/tensor.h"

namespace megamoe {

// BF16, FP16 and FP32: what the quantiser reads.
bool is_float_source(DType dtype) noexcept;

// Throws kInvalidArgument, naming `what`, for any other type.
void require_float_source(std::string_view what, DType dtype);

// out[i] = element first + i of dense data, which may be unaligned. dtype is a float source. Exact.
void read_floats(const void* data, DType dtype, std::int64_t first, std::int64_t count, float* out) noexcept;

}  // namespace megamoe
