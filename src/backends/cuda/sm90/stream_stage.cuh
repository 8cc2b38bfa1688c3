// What the copying warp and the multiplying warps of the streaming loop share: the ring of stages, and what is in each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/stream_config.h"

namespace megamoe::sm90 {

struct StreamStage {
  cuda::TokenTile tile;
  std::int32_t item;   // tile * strips + strip; -1: no more work
  std::int32_t strip;  // an item's features: a panel, or a half of one
  std::int32_t part;
  std::int32_t k_begin;  // of this stage
  std::int32_t k_count;  // a multiple of 16
  std::int32_t last;     // stage of its item
};

// The rows of a call with few choices, ordered by one warp.
struct OwnOrder {
  cuda::TokenTile tiles[kOwnOrderChoices];
  std::int32_t tile_count;
  std::int32_t choice_of[kOwnOrderChoices];
};

template <class Config>
struct StreamShared {
  alignas(128) std::byte weights[Config::kStages][Config::kWeightBytes];
  alignas(128) std::byte tokens[Config::kStages][Config::kTokenBytes];
  float4 sums[Config::kSplits > 1 ? (Config::kSplits - 1) * Config::kGroupThreads : 1];  // of groups of warps
  std::uint64_t full[Config::kStages];
  std::uint64_t empty[Config::kStages];
  StreamStage stage[Config::kStages];
  float scale[Config::kQuantizes ? Config::kStages : 1][8];  // of a stage's tokens, where the block quantises them
  OwnOrder own;
};

}  // namespace megamoe::sm90
