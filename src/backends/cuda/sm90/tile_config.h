// Tile configurations of the tensor-bound loop (tile_gemm.cuh). To add one: a line in kernels_small_tiles.cu or
// kernels_large_tiles.cu, and one in choose.cc.
#pragma once

#include <cstddef>

#include "backends/cuda/common/rows.h"
#include "backends/cuda/sm90/packed_weight.h"

namespace megamoe::sm90 {

inline constexpr int kGroups = 2;  // warpgroups of a block that multiply
// Beside them, one warpgroup, as setmaxnreg asks: a warp copies, one scouts, two gather.
inline constexpr int kFeedWarps = 4;
inline constexpr int kWgmmaColumns = 256;  // beyond, two wgmma share one A operand

// Cluster: blocks that multiply the same tokens with panels of their own, of which each brings a part for all: half as
// much to ask of the second-level cache, which is power. Panels: of 128 features, that a block multiplies with the same
// tokens. With one, each warpgroup has a tile of 64 features; with two, a panel, and its two wgmma share their B
// operand. Columns: the numbers of tokens for which the loop is compiled, ascending; a tile of tokens takes the first
// that holds it. Lead: stages that the second warpgroup begins behind the first, and stays behind it: while one is in
// its epilogue the other has stages to multiply. Steps: copies of less than about 20 KB keep memory less busy, so few
// columns want several.
template <WeightFormat Format, int Cluster, int Panels, int Steps, int Stages, int Lead, int... Columns>
struct TileConfig {
  static_assert(Cluster == 1 || Panels == 1,
                "else a tile's last item would have to tell which blocks have both panels");
  static_assert(Panels == 1 || Panels == 2);
  static_assert(1 <= Lead && Lead + 3 <= Stages);
  static constexpr WeightFormat kFormat = Format;
  static constexpr int kCluster = Cluster;
  static constexpr int kPanels = Panels;
  static constexpr int kTiles = Panels;  // of 64 features, of a warpgroup
  static constexpr int kInstances = sizeof...(Columns);
  static constexpr int kColumnsOf[] = {Columns...};
  static constexpr int kColumns = kColumnsOf[kInstances - 1];
  // Of tiles' sizes, where an expert has several. Beyond kWgmmaColumns instances lie 16 columns and more apart, and a
  // size that is what an instance takes leaves the rest of it to the expert's last tile.
  static constexpr int kRowStep = kColumns > kWgmmaColumns ? 16 : 8;
  static constexpr int kStages = Stages;
  static constexpr int kSteps = Steps;                                 // of 64 K in a stage
  static constexpr int kStepBytes = kPanelTiles * tile_bytes(Format);  // of a panel
  static constexpr int kPanelBytes = Steps * kStepBytes;
  static constexpr int kTokenBytes = Steps * static_cast<int>(cuda::tiled_columns(kColumns)) * kTileK * 2;
  static constexpr int kWarps = 4 * kGroups;  // that multiply
  static constexpr int kThreads = 32 * (kWarps + kFeedWarps);

  // Registers of a thread: at the start, what 65,536 leave each, in steps of 8; then by role.
  static constexpr int kEntryRegisters = 65536 / kThreads / 8 * 8;
  static constexpr int kFeedRegisters = 40;
  static constexpr int kMultiplyRegisters =
      (kEntryRegisters * kThreads - kFeedRegisters * 32 * kFeedWarps) / (32 * kWarps) / 8 * 8;
  static constexpr int kSums = kTiles * kColumns / 2;  // of a thread
  // ptxas wants a wgmma's sums and about 32 registers more to fit those of the start.
  static_assert((kColumns > kWgmmaColumns ? kColumns / 4 : kColumns / 2) + 32 <= kEntryRegisters);
  // How many wgmma run while the next one's weights are decoded: each keeps four more registers.
  static constexpr int kInFlight = kMultiplyRegisters - kSums >= 64 ? 2 : 1;
  static constexpr int kEpilogueColumns = 32;  // that the epilogue has in hand
  static constexpr int kEpilogueRounded = (kColumns + kEpilogueColumns - 1) / kEpilogueColumns * kEpilogueColumns;
  static constexpr int kLead = Lead;
};

}  // namespace megamoe::sm90
