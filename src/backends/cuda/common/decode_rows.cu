// NVFP4 activations to bf16 values that the GEMMs read, and a scale a row. A thread decodes a block of 16.
#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/e2m1.h"
#include "megamoe/formats/e4m3.h"
#include "megamoe/formats/nvfp4.h"

namespace megamoe::cuda {
namespace {

constexpr unsigned kThreads = 256;

// The expert whose rows hold `row`; the last one for rows that nobody has.
__device__ std::int64_t expert_of(std::int64_t row, const std::int32_t* row_begin, std::int64_t experts) {
  std::int64_t low = 0;  // begins at or before the row
  std::int64_t high = experts;
  while (high - low > 1) {
    const std::int64_t middle = (low + high) / 2;
    if (row_begin[middle] <= row)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// Exact: the product has 6 significant bits, and bf16 holds its exponents.
__device__ std::uint32_t decode_pair(unsigned both, float scale) {
  const std::uint32_t low = bf16_from_float(e2m1_to_float(static_cast<std::uint8_t>(both & 15u)) * scale);
  const std::uint32_t high = bf16_from_float(e2m1_to_float(static_cast<std::uint8_t>(both >> 4 & 15u)) * scale);
  return low | high << 16;
}

__global__ void __launch_bounds__(kThreads) megamoe_decode_rows(DecodeRows call) {
  wait_for_previous();
  let_next_start();
  const std::int64_t blocks_of_row = call.cols / kNvfp4Block;
  const std::int64_t block = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (block >= call.rows * blocks_of_row) return;
  const uint2 codes = reinterpret_cast<const uint2*>(call.codes)[block];
  const float scale = e4m3_to_float(call.sf[block]);
  std::uint32_t pairs[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) pairs[i] = decode_pair((i < 4 ? codes.x : codes.y) >> (8 * (i % 4)), scale);
  auto* const out = reinterpret_cast<uint4*>(call.values) + 2 * block;
  out[0] = {pairs[0], pairs[1], pairs[2], pairs[3]};
  out[1] = {pairs[4], pairs[5], pairs[6], pairs[7]};
  if (block % blocks_of_row != 0) return;
  const std::int64_t row = block / blocks_of_row;
  call.global_scale[row] =
      call.expert_scale == nullptr ? 1.0f : call.expert_scale[expert_of(row, call.row_begin, call.experts)];
}

}  // namespace

void decode_rows(const DecodeRows& call, cudaStream_t stream) {
  const std::int64_t blocks = call.rows * (call.cols / kNvfp4Block);
  if (blocks == 0) return;
  launch(megamoe_decode_rows, static_cast<unsigned>((blocks + kThreads - 1) / kThreads), kThreads, 0, stream, call);
}

}  // namespace megamoe::cuda
