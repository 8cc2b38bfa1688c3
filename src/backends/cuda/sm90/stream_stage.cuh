// What the copying warp and the multiplying warps of the streaming loop share: the ring of stages, and what is in each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/ptx.cuh"
#include "backends/cuda/sm90/stream_config.h"

namespace megamoe::sm90 {

struct alignas(16) StreamStage {
  cuda::TokenTile tile;
  std::int32_t item;   // tile * strips + strip; -1: no more work
  std::int32_t strip;  // an item's features: a panel, or a half of one
  std::int32_t part;
  std::int32_t k_begin;  // of this stage
  std::int32_t k_count;  // a multiple of 16
  std::int32_t last;     // stage of its item
};
static_assert(offsetof(StreamStage, k_count) % 8 == 0 &&
              offsetof(StreamStage, last) == offsetof(StreamStage, k_count) + 4);

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
  OwnOrder own;
};

// Where a warp is in the ring.
template <class Config>
struct RingPlace {
  std::uint32_t slot = 0;
  std::uint32_t parity = 0;  // of the slot's barrier

  __device__ __forceinline__ void next() {
    if (++slot < Config::kStages) return;
    slot = 0;
    parity ^= 1;
  }
};

// The ring as a multiplying warp reads it, by addresses in shared memory.
template <class Config>
class RingAddresses {
 public:
  using Shared = StreamShared<Config>;

  __device__ __forceinline__ explicit RingAddresses(const Shared& shared)
      : base_(ptx::opaque(ptx::shared_address(&shared))) {}

  __device__ __forceinline__ std::uint32_t weights(std::uint32_t slot) const {
    return base_ + slot * Config::kWeightBytes;
  }
  __device__ __forceinline__ std::uint32_t tokens(std::uint32_t slot) const {
    return base_ + slot * Config::kTokenBytes + offsetof(Shared, tokens);
  }
  __device__ __forceinline__ std::uint32_t full(std::uint32_t slot) const {
    return base_ + slot * sizeof(std::uint64_t) + offsetof(Shared, full);
  }
  __device__ __forceinline__ std::uint32_t empty(std::uint32_t slot) const {
    return base_ + slot * sizeof(std::uint64_t) + offsetof(Shared, empty);
  }
  // A stage's k_count and whether it is its item's last.
  __device__ __forceinline__ uint2 extent(std::uint32_t slot) const {
    return ptx::load_shared_8(base_ + slot * sizeof(StreamStage) + offsetof(Shared, stage) +
                              offsetof(StreamStage, k_count));
  }

 private:
  std::uint32_t base_;
};

}  // namespace megamoe::sm90
