// Turns a CUDA runtime status into an Error. Only code that is built with CUDA includes this.
#pragma once

#include <cuda_runtime_api.h>

#include "megamoe/error.h"

namespace megamoe {

inline void cuda_check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  (void)cudaGetLastError();  // it was reported: the next call starts clean
  const Code code = status == cudaErrorMemoryAllocation ? Code::kOutOfMemory : Code::kDevice;
  throw Error(code, what, ": the CUDA runtime answered ", cudaGetErrorName(status), " (", cudaGetErrorString(status),
              ")");
}

}  // namespace megamoe
