// The compiled instances of the two GEMM loops, as a table, and how to launch one.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/packed_weight.h"

namespace megamoe::sm90 {

struct Kernel {
  std::string_view name;  // for plan's describe
  WeightFormat weights = WeightFormat::kNvfp4;
  bool streams = false;       // the loop for few rows (stream_gemm.cuh), else the one for many (tile_gemm.cuh)
  std::int32_t max_rows = 0;  // of a tile of tokens
  std::int32_t row_step = 0;  // of tiles' sizes
  std::int32_t stage_k = 0;   // K that one stage of its ring holds
  std::int32_t item_features = kPanelFeatures;  // streaming loop
  std::int32_t item_panels = 1;                 // tile loop, of a block
  std::int32_t blocks_per_sm = 0;               // that are launched
  std::int32_t cluster = 1;                     // blocks of a cluster
  std::int32_t shared_bytes = 0;
  const void* function[2] = {};  // by GemmKind
  std::int32_t threads = 0;
};

// Streaming kernels first.
std::span<const Kernel> kernels();

// Once a process and device, before the first launch: shared memory beyond 48 KiB has to be asked for.
void allow_shared_memory();

// For experts with few, the usual and many rows; nullptr: others take those.
using Kernels = std::array<const Kernel*, cuda::kTileLists>;
inline constexpr int kFew = 0, kUsual = 1, kMany = 2;

// Elements that the launches of a call want for what they gather (RowGather::to, one behind the other), of `rows` rows
// at most on so many experts.
std::int64_t gathered_elements(const Kernels& kernels, std::int64_t panels, std::int64_t k, std::int64_t rows,
                               std::int64_t experts, int multiprocessors);

// One launch a kernel, with its list of tiles. Each is a persistent grid, as many blocks as the device holds at one
// time, whatever the rows. It may start before the kernel in front has ended, and all but the first work beside it; the
// first does where gemm.beside_previous is set. The counters of a launch's claims lie `claims` behind those of the
// launch in front, the first one's are gemm's; so do the rings of what they gather.
void launch(const Kernels& kernels, const cuda::TileLists& lists, GemmKind kind, const Gemm& gemm, std::int64_t claims,
            int multiprocessors, cudaStream_t stream);

}  // namespace megamoe::sm90
