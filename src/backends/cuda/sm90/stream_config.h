// Tile configurations of the streaming loop (stream_gemm.cuh). To add one: a line in kernels_stream.cu,
// and one in choose.cc.
#pragma once

#include <cstddef>

#include "backends/cuda/sm90/packed_weight.h"

namespace megamoe::sm90 {

// Warps whose sums make a panel, 16 features each, and their threads.
inline constexpr int kPanelWarps = kPanelFeatures / 16;
inline constexpr int kPanelThreads = 32 * kPanelWarps;

// Rows: tokens of a tile at most. Tiles: of 64 features, side by side in an item: a panel's two, or one. Steps: of 64 K
// in a stage.
template <WeightFormat Format, int Rows, int Tiles, int Stages, int Steps, int BlocksPerSm>
struct StreamConfig {
  static constexpr WeightFormat kFormat = Format;
  static constexpr int kMaxRows = Rows;
  static constexpr int kBlocks = Rows / 8;  // of 8 tokens
  static constexpr int kTiles = Tiles;
  static constexpr int kStrips = kPanelTiles / Tiles;  // of a panel: what items take
  static constexpr int kWarps = kPanelWarps;           // that multiply
  static constexpr int kThreads = 32 * kWarps;
  // Warps beyond those that an item's features need take other steps of K: `kSplits` groups, step after step in turn.
  static constexpr int kGroupWarps = kPanelWarps / kStrips;
  static constexpr int kGroupThreads = 32 * kGroupWarps;
  static constexpr int kSplits = kWarps / kGroupWarps;
  static constexpr int kStages = Stages;
  static constexpr int kStageSteps = Steps;
  static constexpr int kBlocksPerSm = BlocksPerSm;
  static constexpr int kWeightBytes = kStageSteps * kTiles * tile_bytes(Format);
  // 16 bytes more than the row, so that the eight rows of an ldmatrix lie in different banks.
  static constexpr int kTokenStride = kStageSteps * kTileK * 2 + 16;
  static constexpr int kTokenBytes = kMaxRows * kTokenStride;

  static_assert(Rows % 8 == 0 && kPanelTiles % Tiles == 0 && Steps % kSplits == 0 && Steps <= 32);
  static_assert(kSplits == 1 || kBlocks == 1, "the groups' sums meet in one block of 8 tokens");
};

}  // namespace megamoe::sm90
