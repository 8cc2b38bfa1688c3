// The parts of a layer alone, on device pointers, for engines that have a layer of their own: grouped GEMM over NVFP4
// weights, the same with SwiGLU in its epilogue, and quantising a fused gate/up result.
//
//   const CudaOps ops;                                                  // once a device: the warm-up
//   ops.pack({.rows = n, .cols = k, .data = codes, .sf = sf}, MemoryKind::kHost, packed + e * ops.packed_bytes(shape));
//   workspace of ops.workspace_bytes(shape, max_rows, ActivationFormat::kNvfp4) bytes
//   ops.grouped_gemm({.shape = shape, .rows = rows, .x_codes = a, .x_sf = a_sf, .packed = packed, ...});
//
// The operations submit launches to the stream and nothing else: no allocation, no waiting, no value of the device read
// on the host. So a CUDA graph that captured one replays for any offsets. Their arrays begin at multiples of 16 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "megamoe/buffer.h"
#include "megamoe/moe.h"

namespace megamoe {

// A [rows, k] x B [experts, k, n]: row r of A meets the matrix of the expert whose rows hold r.
struct GroupedShape {
  std::int64_t experts = 0;
  std::int64_t n = 0;  // features; gate and up together where they are fused. A multiple of 16; of 32 where fused
  std::int64_t k = 0;  // a multiple of 16
};

struct GroupedGemm {
  GroupedShape shape;
  std::int64_t rows = 0;  // of A, and of the output

  // A: one of the two forms.
  const std::uint16_t* x = nullptr;       // [rows, k] bf16 bits
  const std::uint8_t* x_codes = nullptr;  // [rows, k / 2] E2M1, low nibble = even k
  const std::uint8_t* x_sf = nullptr;     // [rows, k / 16] E4M3, row-major
  const float* x_global_scale = nullptr;  // [experts], of x_codes; nullptr: 1

  const std::byte* packed = nullptr;       // [experts, packed_bytes(shape)]
  const float* global_scale = nullptr;     // [experts], of the weights; of the gates where fused
  const float* up_global_scale = nullptr;  // [experts], where fused; nullptr: as the gates'

  // [experts] inclusive cumulative sums of the experts' rows. Rows from the last one on get no output.
  const std::int32_t* expert_offsets = nullptr;

  std::uint16_t* output = nullptr;  // [rows, n] bf16 bits; [rows, n / 2] where fused
  std::span<std::byte> workspace;   // at least workspace_bytes(...), any alignment; one call's at a time
  void* stream = nullptr;           // a cudaStream_t
};

// A fused GEMM's result: groups of `granularity` gate columns and as many up columns alternate, gate first, and its
// epilogue left silu(gate) * up in the gate columns.
struct DeinterleaveQuantize {
  const std::uint16_t* fused = nullptr;  // [rows, 2 * inter] bf16 bits
  std::int64_t rows = 0;
  std::int64_t inter = 0;               // a multiple of 16
  std::int64_t granularity = 8;         // a multiple of 8 that divides inter
  bool bridge_recipe = false;           // the older arithmetic (docs/numerics.md), else rne
  const float* global_scale = nullptr;  // [1]; nullptr: of each row, computed here
  std::uint8_t* codes = nullptr;        // [rows, inter / 2]
  std::uint8_t* sf = nullptr;           // [rows, inter / 16] E4M3
  float* row_global_scale = nullptr;    // [rows] the scale that was taken; nullptr: not wanted
  void* stream = nullptr;
};

class CudaOps {
 public:
  // For the current device; loads its kernels. Throws kUnsupported, with the reason, in a build without CUDA and where
  // the device is no H100 or H200.
  CudaOps();

  // Packed weights of one expert.
  std::size_t packed_bytes(const GroupedShape& shape) const;

  // One expert's NVFP4 matrix [n, k], K contiguous, into `packed` on the device; its global_scale is not looked at.
  // From host memory (kHost): refuses block scales that are negative or NaN, takes memory on the device for a copy, and
  // waits. From the device (kCuda, at multiples of 8 bytes): submitted to `stream`; such scales are the caller's to
  // exclude.
  void pack(const MatrixView& matrix, MemoryKind where, std::byte* packed, void* stream = nullptr) const;
  // Gate and up [n / 2, k] of one expert, for grouped_swiglu. A stack [gate; up] is two views into it.
  void pack_gate_up(const MatrixView& gate, const MatrixView& up, MemoryKind where, std::byte* packed,
                    void* stream = nullptr) const;

  // For calls of at most `max_rows` rows of A in that format, bf16 or nvfp4.
  std::size_t workspace_bytes(const GroupedShape& shape, std::int64_t max_rows, ActivationFormat x) const;

  // output = A x B, sums in fp32, times x's and the weights' scales, rounded once.
  void grouped_gemm(const GroupedGemm& call) const;
  // output[r, i] = activation(gate_i, up_i): both halves of a pair meet in the epilogue, in fp32 (megamoe/moe.h).
  void grouped_swiglu(const GroupedGemm& call, const Activation& activation) const;

  void deinterleave_quantize(const DeinterleaveQuantize& call) const;

 private:
  int multiprocessors_ = 0;
};

}  // namespace megamoe
