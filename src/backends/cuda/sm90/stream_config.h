// Tile configurations of the streaming loop (stream_gemm.cuh). To add one: a line in kernels_stream.cu,
// and one in choose.cc.
#pragma once

#include <cstddef>

#include "backends/cuda/sm90/packed_weight.h"

namespace megamoe::sm90 {

inline constexpr int kStreamWarps = 8;                    // that multiply: 16 features each
inline constexpr int kStreamThreads = 32 * kStreamWarps;  // without the copying warp's

// Rows: tokens of a tile at most. Steps: of 64 K in a stage.
template <WeightFormat Format, int Rows, int Stages, int Steps, int BlocksPerSm>
struct StreamConfig {
  static constexpr WeightFormat kFormat = Format;
  static constexpr int kMaxRows = Rows;
  static constexpr int kStages = Stages;
  static constexpr int kStageSteps = Steps;
  static constexpr int kBlocksPerSm = BlocksPerSm;
  static constexpr int kWeightBytes = kStageSteps * kPanelTiles * tile_bytes(Format);
  // 16 bytes more than the row, so that the eight rows of an ldmatrix lie in different banks.
  static constexpr int kTokenStride = kStageSteps * kTileK * 2 + 16;
  static constexpr int kTokenBytes = kMaxRows * kTokenStride;
};

}  // namespace megamoe::sm90
