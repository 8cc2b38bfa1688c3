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

constexpr std::int64_t kBatch = 16;  // blocks that are looked at one by one before the vectors try again

std::uint16_t bits_at(const std::byte* data, std::int64_t i) {
  std::uint16_t bits;
  std::memcpy(&bits, data + 2 * i, sizeof bits);
  return bits;
}

std::uint16_t magnitude_at(const std::byte* data, std::int64_t i) {
  return static_cast<std::uint16_t>(bits_at(data, i) & 0x7FFF);
}

// The end of a tensor, and blocks that the vectors refuse.
void quantize_some(const std::byte* data, std::int64_t blocks, float global_scale, std::uint8_t* codes,
                   std::uint8_t* sf, ErrorStats* error) {
  std::array<float, kBatch * kNvfp4Block> want, got;
  const auto n = static_cast<std::size_t>(blocks * kNvfp4Block);
  for (std::size_t i = 0; i < n; ++i) want[i] = bf16_to_float(bits_at(data, static_cast<std::int64_t>(i)));
  quantize_rne_row({want.data(), n}, global_scale, codes, sf);
  if (error == nullptr) return;
  dequantize_nvfp4_row(codes, sf, global_scale, {got.data(), n});
  ErrorStats here;
  here.add({want.data(), n}, {got.data(), n});
  error->merge(here);
}

}  // namespace

std::uint16_t bf16_amax_bits(const void* data, std::int64_t count, bool ignore_nan) noexcept {
  const auto* bytes = static_cast<const std::byte*>(data);
  std::uint16_t amax = 0;
  for (std::int64_t i = bf16_amax_by_vectors(bytes, count, ignore_nan, &amax); i < count; ++i) {
    const std::uint16_t bits = magnitude_at(bytes, i);
    if (!(ignore_nan && bits > 0x7F80)) amax = std::max(amax, bits);
  }
  return amax;
}

std::uint16_t scan_bf16(const void* data, std::int64_t blocks, std::uint16_t* block_amax) noexcept {
  const auto* bytes = static_cast<const std::byte*>(data);
  std::uint16_t amax = 0;
  for (std::int64_t b = bf16_scan_by_vectors(bytes, blocks, block_amax, &amax); b < blocks; ++b) {
    block_amax[b] = 0;
    for (std::int64_t i = b * kNvfp4Block; i < (b + 1) * kNvfp4Block; ++i)
      block_amax[b] = std::max(block_amax[b], magnitude_at(bytes, i));
    amax = std::max(amax, block_amax[b]);
  }
  return amax;
}

// Sums of 4096 squares stay below 2^126, and what underflows is below 2^-40 of the largest.
bool has_bf16_squares(float global_scale) noexcept { return global_scale >= 0x1p-50f && global_scale <= 0x1p40f; }

void quantize_rne_bf16(const void* data, std::int64_t blocks, const std::uint16_t* block_amax, float global_scale,
                       std::uint8_t* codes, std::uint8_t* sf, ErrorStats* error) {
  for (std::int64_t b = 0; b < blocks;) {
    const auto* from = static_cast<const std::byte*>(data) + 2 * kNvfp4Block * b;
    std::int64_t done = rne_bf16_by_vectors(from, blocks - b, block_amax + b, global_scale,
                                            codes + kNvfp4BlockBytes * b, sf + b, error);
    if (done == 0) {
      done = std::min(kBatch, blocks - b);
      quantize_some(from, done, global_scale, codes + kNvfp4BlockBytes * b, sf + b, error);
    }
    b += done;
  }
}

}  // namespace megamoe
