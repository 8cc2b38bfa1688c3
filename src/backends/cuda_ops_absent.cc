// In place of backends/cuda/sm90/ops.cc, in builds without CUDA.
#include "megamoe/cuda_ops.h"
#include "megamoe/error.h"

namespace megamoe {

CudaOps::CudaOps() { throw Error(Code::kUnsupported, "CUDA operations: ", MEGAMOE_CUDA_ABSENT); }

// Nobody has an object to call these of.
std::size_t CudaOps::packed_bytes(const GroupedShape&) const { return 0; }
void CudaOps::pack(const MatrixView&, MemoryKind, std::byte*, void*) const {}
void CudaOps::pack_gate_up(const MatrixView&, const MatrixView&, MemoryKind, std::byte*, void*) const {}
std::size_t CudaOps::workspace_bytes(const GroupedShape&, std::int64_t, ActivationFormat) const { return 0; }
void CudaOps::grouped_gemm(const GroupedGemm&) const {}
void CudaOps::grouped_swiglu(const GroupedGemm&, const Activation&) const {}
void CudaOps::deinterleave_quantize(const DeinterleaveQuantize&) const {}

}  // namespace megamoe
