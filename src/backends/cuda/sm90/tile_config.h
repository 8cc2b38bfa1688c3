// Tile configurations of the tensor-bound loop (tile_gemm.cuh). To add one: a line in kernels_small_tiles.cu or
// kernels_large_tiles.cu, and one in choose.cc.
#pragma once

#include <cstddef>

#include "backends/cuda/sm90/packed_weight.h"

namespace megamoe::sm90 {

inline constexpr int kCopyThreads = 128;   // one copies; a warpgroup, as setmaxnreg asks
inline constexpr int kTileColumns = 16;    // step of N; a tile's rows are rounded up to it
inline constexpr int kWgmmaColumns = 256;  // beyond, two wgmma share one A operand

// Panels: of 128 features, each the work of two warpgroups. Columns: tokens of a tile at most; tiles of fewer than
// MinColumns run as if they had as many. Steps: copies of less than about 20 KB keep memory less busy, so few columns
// want several.
template <WeightFormat Format, int Panels, int Columns, int MinColumns, int ColumnStep, int Steps, int Stages,
          int BlocksPerSm>
struct TileConfig {
  static_assert(ColumnStep % kTileColumns == 0 && MinColumns % ColumnStep == 0 &&
                (Columns - MinColumns) % ColumnStep == 0);
  static constexpr WeightFormat kFormat = Format;
  static constexpr int kPanels = Panels;
  static constexpr int kColumns = Columns;
  static constexpr int kMinColumns = MinColumns;
  static constexpr int kColumnStep = ColumnStep;
  static constexpr int kStages = Stages;
  static constexpr int kSteps = Steps;                                 // of 64 K in a stage
  static constexpr int kStepBytes = kPanelTiles * tile_bytes(Format);  // of a panel
  static constexpr int kPanelBytes = Steps * kStepBytes;
  static constexpr int kTokenBytes = Steps * Columns * kTileK * 2;
  static constexpr int kWarps = 8 * Panels;  // that multiply
  static constexpr int kThreads = 32 * kWarps;

  static constexpr int kBlocksPerSm = BlocksPerSm;

  // Registers of a thread: at the start, what lets BlocksPerSm blocks into 65,536, in steps of 8; then by role.
  static constexpr int kEntryRegisters = 65536 / BlocksPerSm / (kThreads + kCopyThreads) / 8 * 8;
  static constexpr int kCopyRegisters = kEntryRegisters == 168 ? 40 : 32;
  static constexpr int kMultiplyRegisters =
      (kEntryRegisters * (kThreads + kCopyThreads) - kCopyRegisters * kCopyThreads) / kThreads / 8 * 8;
  // ptxas wants a wgmma's sums and about 32 registers more to fit those of the start.
  static_assert((Columns > kWgmmaColumns ? Columns / 4 : Columns / 2) + 32 <= kEntryRegisters);
  // How many wgmma run while the next one's weights are decoded: each keeps four more registers.
  static constexpr int kInFlight = kMultiplyRegisters - Columns / 2 >= 56 ? 2 : 1;
  // Blocks of 8 columns that the epilogue has in hand.
  static constexpr int kEpilogueBlocks = kMultiplyRegisters - Columns / 2 >= 104 ? 4 : 2;
};

}  // namespace megamoe::sm90
