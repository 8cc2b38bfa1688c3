// A stable counting sort of the choices by expert, and from its prefix sums the lists of GEMM tiles.
//
// The choices are cut into one contiguous chunk a warp. Each warp counts its chunk's choices of every expert; prefix
// sums over (expert, warp) then say where the warp's first row of each expert is; each warp walks its chunk again and
// hands out rows. No row depends on which warp was faster. Many choices are shared by many blocks; a launch in front
// counts each block's choices of every expert for all of them, so that no block waits for another. In one launch, a
// cluster of eight blocks, handing out 65,536 rows was half of 20 us, for eight SMs' scattered stores. Where a warp's
// counts do not fit shared memory, one block keeps them in `scratch`.
#include <algorithm>
#include <cub/block/block_scan.cuh>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "backends/cuda/common/token_tiles.cuh"

namespace megamoe::cuda {
namespace {

constexpr int kThreads = 512;
constexpr std::int64_t kOneBlockChoices = 2048;  // more than these are worth a second launch
constexpr std::int64_t kBlockChoices = 1024;     // of each block then, or more
constexpr std::int64_t kBlocksMax = 128;
constexpr std::int64_t kCountBytesMax = 160 << 10;  // of shared memory
constexpr std::int64_t kUnaskedBytes = 47 << 10;    // of it that a launch may have anyway, 1 KiB kept for the scan's
constexpr int kScratchWarps = 8;
constexpr int kWarpsAtOnce = 8;    // whose counts a thread has in registers
constexpr int kBlocksAtOnce = 16;  // the same
constexpr int kIdsAtOnce = 8;      // that a thread asks for before it counts the first

// Three tables of int32: counts [warps, experts], block_counts [experts], first_rows [experts].
constexpr std::int64_t table_bytes(std::int64_t experts, std::int64_t warps) {
  return (warps + 2) * experts * static_cast<std::int64_t>(sizeof(std::int32_t));
}

std::int64_t blocks_for(std::int64_t choices) {
  return choices <= kOneBlockChoices ? 1 : std::min((choices + kBlockChoices - 1) / kBlockChoices, kBlocksMax);
}

// Warps that count; 0 where not even one warp's counts fit into shared memory.
std::int64_t counting_warps(std::int64_t experts, std::int64_t choices_of_block) {
  const std::int64_t wanted = std::clamp<std::int64_t>((choices_of_block + kWarp - 1) / kWarp, 1, kThreads / kWarp);
  const std::int64_t row_bytes = std::max<std::int64_t>(table_bytes(experts, 0) / 2, 1);
  return std::clamp<std::int64_t>(kCountBytesMax / row_bytes - 2, 0, wanted);
}

struct Tables {
  std::int32_t* counts;        // [warps, experts] choices of a warp's chunk; then rows before the warp's in its block
  std::int32_t* block_counts;  // [experts]
  std::int32_t* first_rows;    // [experts] of this block
};

// Choices of one warp, or of one block: as even as multiples of kWarp allow.
struct Chunk {
  std::int64_t begin;
  std::int64_t end;

  __device__ static Chunk of(Chunk all, std::int64_t index, std::int64_t count) {
    const std::int64_t size = ((all.end - all.begin + count - 1) / count + kWarp - 1) / kWarp * kWarp;
    const std::int64_t begin = min(all.end, all.begin + index * size);
    return {begin, min(all.end, begin + size)};
  }
};

__device__ Chunk chunk_of_block(const OrderRows& call) {
  return Chunk::of({0, call.tokens * call.top_k}, blockIdx.x, gridDim.x);
}

__device__ bool has_row(std::int32_t expert, std::int64_t experts) { return expert >= 0 && expert < experts; }

// Of `threads` that count together, the thread-th.
__device__ void count_chunk(const OrderRows& call, Chunk chunk, int thread, int threads, std::int32_t* counts) {
  for (std::int64_t first = chunk.begin + thread; first < chunk.end; first += kIdsAtOnce * threads) {
    std::int32_t expert[kIdsAtOnce];
#pragma unroll
    for (int i = 0; i < kIdsAtOnce; ++i)
      expert[i] = first + i * threads < chunk.end ? call.topk_ids[first + i * threads] : -1;
#pragma unroll
    for (int i = 0; i < kIdsAtOnce; ++i)
      if (has_row(expert[i], call.experts)) atomicAdd(counts + expert[i], 1);
  }
}

__device__ void place_chunk(const OrderRows& call, Chunk chunk, int lane, std::int32_t* counts,
                            const std::int32_t* first_rows) {
  const auto id_of = [&](std::int64_t choice) { return choice < chunk.end ? call.topk_ids[choice] : -1; };
  std::int32_t next = id_of(chunk.begin + lane);
  for (std::int64_t start = chunk.begin; start < chunk.end; start += kWarp) {
    const std::int64_t choice = start + lane;
    const std::int32_t expert = next;
    next = id_of(choice + kWarp);
    const unsigned same = __match_any_sync(~0u, expert);
    const unsigned before = same & ((1u << lane) - 1);
    const bool routed = has_row(expert, call.experts);
    const std::int32_t placed = routed ? counts[expert] : 0;
    __syncwarp();  // everyone has read
    if (routed && before == 0) counts[expert] = placed + __popc(same);
    __syncwarp();  // the next 32 choices read this
    if (routed) {
      const std::int32_t row = first_rows[expert] + placed + __popc(before);
      call.order.row_of[choice] = row;
      call.order.choice_of[row] = static_cast<std::int32_t>(choice);
    } else if (choice < chunk.end) {
      call.order.row_of[choice] = -1;
    }
  }
}

// Rows of an expert, of all blocks and of those before this one.
struct BlockSums {
  std::int32_t all;
  std::int32_t before;
};
__device__ BlockSums sum_blocks(const std::int32_t* of_blocks, std::int64_t expert, std::int64_t experts) {
  const int blocks = static_cast<int>(gridDim.x);
  const int block = static_cast<int>(blockIdx.x);
  BlockSums sums{};
  for (int first = 0; first < blocks; first += kBlocksAtOnce) {
    std::int32_t count[kBlocksAtOnce];
#pragma unroll
    for (int i = 0; i < kBlocksAtOnce; ++i)
      count[i] = first + i < blocks ? __ldcg(of_blocks + (first + i) * experts + expert) : 0;
#pragma unroll
    for (int i = 0; i < kBlocksAtOnce; ++i) {
      sums.all += count[i];
      if (first + i < block) sums.before += count[i];
    }
  }
  return sums;
}

__device__ void clear(std::int32_t* table, std::int64_t elements) {
  for (std::int64_t i = threadIdx.x; i < elements; i += kThreads) table[i] = 0;
}

__device__ void clear_counters(const OrderRows& call) {
  for (std::int64_t i = blockIdx.x * kThreads + threadIdx.x; i < call.counter_count; i += gridDim.x * kThreads)
    call.counters[i] = 0;
}

__device__ Tables tables_at(std::int32_t* memory, std::int64_t experts, std::int64_t warps) {
  return {memory, memory + warps * experts, memory + (warps + 1) * experts};
}

// `of_blocks` [blocks, experts]: what the launch in front counted; nullptr: this is the first launch, and one block.
__device__ void order(const OrderRows& call, std::int64_t warps, std::int32_t* memory, const std::int32_t* of_blocks) {
  using Scan = cub::BlockScan<RowsAndTiles, kThreads, cub::BLOCK_SCAN_WARP_SCANS>;
  __shared__ typename Scan::TempStorage scan_storage;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  const std::int64_t warp = thread / kWarp;
  const std::int64_t experts = call.experts;
  const Tables tables = tables_at(memory, experts, warps);
  const Chunk chunk = warp < warps ? Chunk::of(chunk_of_block(call), warp, warps) : Chunk{};
  std::int32_t* const counts = tables.counts + min(warp, warps - 1) * experts;

  const auto wait = [] {
    wait_for_previous();
    let_next_start();
  };
  if (of_blocks == nullptr) wait();  // else the ids were there before the launch in front
  clear(tables.counts, warps * experts);
  __syncthreads();
  count_chunk(call, chunk, lane, kWarp, counts);
  __syncthreads();

  for (std::int64_t expert = thread; expert < experts; expert += kThreads) {
    std::int32_t sum = 0;
    for (std::int64_t first = 0; first < warps; first += kWarpsAtOnce) {
      std::int32_t of_warp[kWarpsAtOnce];
#pragma unroll
      for (int i = 0; i < kWarpsAtOnce; ++i)
        of_warp[i] = first + i < warps ? tables.counts[(first + i) * experts + expert] : 0;
#pragma unroll
      for (int i = 0; i < kWarpsAtOnce; ++i) {
        if (first + i < warps) tables.counts[(first + i) * experts + expert] = sum;
        sum += of_warp[i];
      }
    }
    tables.block_counts[expert] = sum;
  }
  if (of_blocks == nullptr)
    clear_counters(call);
  else
    wait();

  // Every block sums over all experts for itself; the first writes what the sums say.
  const bool is_first = blockIdx.x == 0;
  RowsAndTiles before{};
  for (std::int64_t start = 0; start < experts; start += kThreads) {
    const std::int64_t expert = start + thread;
    BlockSums rows{};
    if (expert < experts) {
      rows = of_blocks != nullptr ? sum_blocks(of_blocks, expert, experts)
                                  : BlockSums{.all = tables.block_counts[expert], .before = 0};
    }
    constexpr AddRowsAndTiles kAdd;
    RowsAndTiles sum{}, all{};
    Scan(scan_storage).ExclusiveScan(rows_and_tiles(rows.all, call.tiles), sum, RowsAndTiles{}, kAdd, all);
    sum = kAdd(before, sum);
    before = kAdd(before, all);
    if (expert < experts) {
      tables.first_rows[expert] = sum.rows + rows.before;
      if (is_first) call.order.row_begin[expert] = sum.rows;
    }
    if (is_first) write_tiles(call.tiles, static_cast<std::int32_t>(expert), rows.all, sum);
    __syncthreads();  // the next round scans in the same storage; after the last one, first_rows is read
  }
  if (is_first && thread == 0) {
    call.order.row_begin[experts] = before.rows;
    for (int i = 0; i < kTileLists; ++i)
      if (call.tiles.of[i].tiles != nullptr) *call.tiles.of[i].count = before.tiles[i];
  }
  if (blockIdx.x == gridDim.x - 1 && thread < kWarp && call.shared_tiles.tiles != nullptr) {
    const auto tokens = lane == 0 ? static_cast<std::int32_t>(call.tokens) : 0;
    write_tiles({.of = {call.shared_tiles}}, 0, tokens, {});
    if (lane == 0) *call.shared_tiles.count = cut_rows(tokens, call.shared_tiles).tiles;
  }
  place_chunk(call, chunk, lane, counts, tables.first_rows);
}

__global__ void __launch_bounds__(kThreads) megamoe_count_rows(OrderRows call) {
  extern __shared__ std::int32_t counts[];
  wait_for_previous();
  let_next_start();
  clear(counts, call.experts);
  clear_counters(call);
  __syncthreads();
  count_chunk(call, chunk_of_block(call), static_cast<int>(threadIdx.x), kThreads, counts);
  __syncthreads();
  auto* const out = static_cast<std::int32_t*>(call.scratch) + blockIdx.x * call.experts;
  for (std::int64_t expert = threadIdx.x; expert < call.experts; expert += kThreads) out[expert] = counts[expert];
}

__global__ void __launch_bounds__(kThreads) megamoe_order_rows(OrderRows call, std::int64_t warps) {
  extern __shared__ std::int32_t tables[];
  order(call, warps, tables, gridDim.x > 1 ? static_cast<const std::int32_t*>(call.scratch) : nullptr);
}

__global__ void __launch_bounds__(kThreads) megamoe_order_rows_scratch(OrderRows call) {
  order(call, kScratchWarps, static_cast<std::int32_t*>(call.scratch), nullptr);
}

// Only layers of many hundred experts take so much. Not this call's bytes: it holds for the process, and another thread
// may be about to launch with more.
void ask_for_shared(const void* kernel, std::int64_t bytes) {
  if (bytes <= kUnaskedBytes) return;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kCountBytesMax),
             "order rows: shared memory");
}

}  // namespace

std::size_t order_rows_scratch_bytes(std::int64_t tokens, std::int64_t top_k, std::int64_t experts) {
  if (counting_warps(experts, 1) == 0) return static_cast<std::size_t>(table_bytes(experts, kScratchWarps));
  const std::int64_t blocks = blocks_for(tokens * top_k);
  return blocks == 1 ? 0 : static_cast<std::size_t>(blocks * experts) * sizeof(std::int32_t);
}

void order_rows(const OrderRows& call, cudaStream_t stream) {
  const std::int64_t choices = call.tokens * call.top_k;
  const std::int64_t blocks = blocks_for(choices);
  const std::int64_t warps = counting_warps(call.experts, (choices + blocks - 1) / blocks);
  if (warps == 0) return launch(megamoe_order_rows_scratch, 1, kThreads, 0, stream, call);
  const auto grid = static_cast<unsigned>(blocks);
  if (blocks > 1) {
    const std::int64_t bytes = call.experts * static_cast<std::int64_t>(sizeof(std::int32_t));
    ask_for_shared(reinterpret_cast<const void*>(megamoe_count_rows), bytes);
    launch(megamoe_count_rows, grid, kThreads, static_cast<std::size_t>(bytes), stream, call);
  }
  const std::int64_t bytes = table_bytes(call.experts, warps);
  ask_for_shared(reinterpret_cast<const void*>(megamoe_order_rows), bytes);
  launch(megamoe_order_rows, grid, kThreads, static_cast<std::size_t>(bytes), stream, call, warps);
}

}  // namespace megamoe::cuda
