// Which compiled kernels a call takes. The host decides, from sizes alone: what lies on the device is not looked at.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "backends/cuda/sm90/kernels.h"

namespace megamoe::sm90 {

// How one pair of GEMMs runs: the same tiles of tokens serve both.
struct Choice {
  Kernels kernels;                 // by the rows of an expert, as in TileLists
  std::int32_t parts_gate_up = 1;  // of K
  std::int32_t parts_down = 1;

  const Kernel& usual() const { return *kernels[kUsual]; }  // what an expert with the mean number of rows takes
};

using TokenTiles = std::array<std::span<cuda::TokenTile>, cuda::kTileLists>;
// The lists of a call's tiles for the kernels of a choice, in these arrays; counts [kTileLists]. Of `rows` rows at
// most, however they fall on `experts`.
cuda::TileLists tile_lists(const Choice& choice, const TokenTiles& tiles, std::int32_t* counts, std::int64_t rows,
                           std::int64_t experts);

// For `rows` rows that fall on about `active` of the experts evenly, with weights of inter x hidden.
struct GemmSizes {
  WeightFormat weights = WeightFormat::kNvfp4;
  std::int64_t hidden = 0;
  std::int64_t inter = 0;
  std::int64_t rows = 0;
  double active = 0;
  const Kernel* forced = nullptr;  // taken where its weights are of this format
};
Choice choose(const GemmSizes& sizes);

// Elements that any call of up to `most.rows` rows on `experts` gathers (gathered_elements), of any kernels that may be
// chosen up to there: more rows never take a kernel of smaller tiles. `has_companions`: for few and many rows.
std::int64_t most_gathered(const GemmSizes& most, bool has_companions, std::int64_t panels, std::int64_t k,
                           std::int64_t experts, int multiprocessors);

// The kernel that the environment's MEGAMOE_SM90_KERNEL names (the column `name` of kernels()), for tests and tuning: a
// plan that is made meanwhile takes it for every number of tokens. nullptr where nothing is set. Throws
// kInvalidArgument, naming those there are.
const Kernel* forced_kernel();

// K is cut into parts up to so many rows only.
inline constexpr std::int64_t kMostCutRows = 256;

// Of `experts`, how many at least one of `tokens` tokens chooses, each k different ones at random.
double expected_active(std::int64_t experts, std::int64_t top_k, std::int64_t tokens);

}  // namespace megamoe::sm90
