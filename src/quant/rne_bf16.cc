#include "quant/rne_bf16.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"
#include "quant/rne_bf16_vectors.h"
#include "quant/rne_row.h"

namespace megamoe {
namespace {

constexpr std::int64_t kBatch = 16;  // blocks

// Where squares of numbers and of errors are floats without loss that matters: sums of 256 of them below 2^126, and what
// underflows below 2^-40 of the largest.
bool has_squares(float global_scale) { return global_scale >= 0x1p-50f && global_scale <= 0x1p40f; }

// Blocks, one by one: the end of a tensor, and what the vectors refuse.
void quantize_some(const std::byte* data, std::int64_t blocks, float global_scale, std::uint8_t* codes,
                   std::uint8_t* sf, ErrorStats* error) {
  std::array<float, kBatch * kNvfp4Block> want, got;
  for (std::int64_t b = 0; b < blocks; b += kBatch) {
    const auto n = static_cast<std::size_t>(std::min(kBatch, blocks - b) * kNvfp4Block);
    for (std::size_t i = 0; i < n; ++i) {
      std::uint16_t bits;
      std::memcpy(&bits, data + 2 * (static_cast<std::size_t>(b * kNvfp4Block) + i), sizeof bits);
      want[i] = bf16_to_float(bits);
    }
    const std::span<const float> row(want.data(), n);
    quantize_rne_row(row, global_scale, codes + b * kNvfp4BlockBytes, sf + b);
    if (error == nullptr) continue;
    dequantize_nvfp4_row(codes + b * kNvfp4BlockBytes, sf + b, global_scale, {got.data(), n});
    error->add(row, {got.data(), n});
  }
}

std::uint16_t amax_bits_of_some(const std::byte* data, std::int64_t count, bool ignore_nan) {
  std::uint16_t amax = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint16_t bits;
    std::memcpy(&bits, data + 2 * i, sizeof bits);
    bits = static_cast<std::uint16_t>(bits & 0x7FFF);
    if (!(ignore_nan && bits > 0x7F80)) amax = std::max(amax, bits);
  }
  return amax;
}

}  // namespace

std::uint16_t bf16_amax_bits(const void* data, std::int64_t count, bool ignore_nan) noexcept {
  const auto* bytes = static_cast<const std::byte*>(data);
  std::uint16_t amax = 0;
  const std::int64_t done = bf16_amax_by_vectors(bytes, count, ignore_nan, &amax);
  return std::max(amax, amax_bits_of_some(bytes + 2 * done, count - done, ignore_nan));
}

void quantize_rne_bf16(const void* data, std::int64_t blocks, float global_scale, std::uint8_t* codes, std::uint8_t* sf,
                       ErrorStats* error) {
  const bool has_vectors = error == nullptr || has_squares(global_scale);
  for (std::int64_t b = 0; b < blocks;) {
    const auto* from = static_cast<const std::byte*>(data) + 2 * kNvfp4Block * b;
    std::int64_t done = 0;
    if (has_vectors)
      done = rne_bf16_by_vectors(from, blocks - b, global_scale, codes + kNvfp4BlockBytes * b, sf + b, error);
    if (done == 0) {
      done = std::min(kBatch, blocks - b);
      quantize_some(from, done, global_scale, codes + kNvfp4BlockBytes * b, sf + b, error);
    }
    b += done;
  }
}

}  // namespace megamoe
