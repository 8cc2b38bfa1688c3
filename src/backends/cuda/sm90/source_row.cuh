// Where a row of the tiles comes from: its place in the routing, and with it its token.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backends/cuda/sm90/gemm.h"

namespace megamoe::sm90 {

// Flat index into topk_ids. `own_choice_of`: in shared memory, where the block ordered the rows; nullptr: Gemm's.
__device__ __forceinline__ std::int32_t choice_of_row(const Gemm& gemm, const std::int32_t* own_choice_of, int row) {
  return own_choice_of != nullptr ? own_choice_of[row] : __ldcg(gemm.choice_of + row);
}

// The row of x and x_scale that `row` is: its token with gather_top_k, otherwise itself.
__device__ __forceinline__ int source_row(const Gemm& gemm, const std::int32_t* own_choice_of, int row) {
  return gemm.gather_top_k == 0 ? row : choice_of_row(gemm, own_choice_of, row) / gemm.gather_top_k;
}

}  // namespace megamoe::sm90
