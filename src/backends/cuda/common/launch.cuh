// Launches a kernel so that it may start before the one in front of it has ended (programmatic dependent launch, CUDA
// Programming Guide 6.2.5). Every kernel that is launched this way calls wait_for_previous() in every thread before it
// touches what earlier kernels write or read: the chain is only as strong as its weakest link. And it calls
// let_next_start() only after that: then whatever the kernels before the previous one wrote may be read without
// waiting. Exceptions have names, and say why they may: beside_previous and next_may_start.
#pragma once

#include <cuda_runtime.h>

#include "base/cuda_check.h"

namespace megamoe::cuda {

// PTX ISA 9.7.13.13, griddepcontrol: all of the kernels in front are done, and what they wrote is visible.
__device__ __forceinline__ void wait_for_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
// The next kernel may be scheduled once every block has said this or ended.
__device__ __forceinline__ void let_next_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes, cudaStream_t stream,
            const Args&... args) {
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = 1;
  cuda_check(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...), "kernel launch");
}

}  // namespace megamoe::cuda
