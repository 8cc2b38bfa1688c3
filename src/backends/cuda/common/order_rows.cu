// A stable counting sort of the choices by expert, and from its prefix sums the list of GEMM tiles: one launch.
//
// The choices are cut into one contiguous chunk a warp. Each warp counts its chunk's choices of every expert; prefix
// sums over (expert, warp) then say where the warp's first row of each expert is; each warp walks its chunk again and
// hands out rows. No row depends on which warp was faster. Many choices are shared by the blocks of one cluster, which
// read each other's counts in shared memory. Where the counts do not fit there, one block keeps them in `scratch`.
#include <cooperative_groups.h>

#include <algorithm>
#include <cub/block/block_scan.cuh>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "backends/cuda/common/token_tiles.cuh"

namespace megamoe::cuda {
namespace {

constexpr int kOneBlockThreads = 512;
constexpr int kClusterThreads = 1024;
constexpr int kClusterBlocks = 8;                   // the largest size that every device with clusters takes
constexpr std::int64_t kOneBlockChoices = 2048;     // more than these are worth a cluster
constexpr std::int64_t kCountBytesMax = 160 << 10;  // of shared memory
constexpr int kScratchWarps = 8;
constexpr int kWarpsAtOnce = 8;  // whose counts a thread has in registers
constexpr int kIdsAtOnce = 8;    // that a thread asks for before it counts the first

// Three tables of int32: counts [warps, experts], block_counts [experts], first_rows [experts].
constexpr std::int64_t table_bytes(std::int64_t experts, std::int64_t warps) {
  return (warps + 2) * experts * static_cast<std::int64_t>(sizeof(std::int32_t));
}

// Warps that count; 0 where not even one warp's counts fit into shared memory.
std::int64_t counting_warps(std::int64_t experts, std::int64_t choices_of_block, int threads) {
  const std::int64_t wanted = std::clamp<std::int64_t>((choices_of_block + kWarp - 1) / kWarp, 1, threads / kWarp);
  const std::int64_t row_bytes = std::max<std::int64_t>(table_bytes(experts, 0) / 2, 1);
  return std::clamp<std::int64_t>(kCountBytesMax / row_bytes - 2, 0, wanted);
}

struct Tables {
  std::int32_t* counts;        // [warps, experts] choices of a warp's chunk; then rows before the warp's in its block
  std::int32_t* block_counts;  // [experts]
  std::int32_t* first_rows;    // [experts] of this block
};

struct Chunk {  // of one warp
  std::int64_t begin;
  std::int64_t end;
};

__device__ bool has_row(std::int32_t expert, std::int64_t experts) { return expert >= 0 && expert < experts; }

__device__ void count_chunk(const OrderRows& call, Chunk chunk, int lane, std::int32_t* counts) {
  for (std::int64_t first = chunk.begin + lane; first < chunk.end; first += kIdsAtOnce * kWarp) {
    std::int32_t expert[kIdsAtOnce];
#pragma unroll
    for (int i = 0; i < kIdsAtOnce; ++i)
      expert[i] = first + i * kWarp < chunk.end ? call.topk_ids[first + i * kWarp] : -1;
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

template <int kThreads, int kBlocks>
__device__ void order(const OrderRows& call, std::int64_t warps, const Tables& tables) {
  namespace cg = cooperative_groups;
  using Scan = cub::BlockScan<RowsAndTiles, kThreads, cub::BLOCK_SCAN_WARP_SCANS>;
  __shared__ typename Scan::TempStorage scan_storage;
  const int thread = static_cast<int>(threadIdx.x);
  const int block = static_cast<int>(blockIdx.x);
  const int lane = thread % kWarp;
  const std::int64_t warp = thread / kWarp;
  const std::int64_t experts = call.experts;

  const std::int64_t choices = call.tokens * call.top_k;
  const std::int64_t chunks = warps * kBlocks;
  const std::int64_t chunk_size = ((choices + chunks - 1) / chunks + kWarp - 1) / kWarp * kWarp;
  const std::int64_t begin = min(choices, (block * warps + warp) * chunk_size);
  const Chunk chunk{begin, warp < warps ? min(choices, begin + chunk_size) : begin};
  std::int32_t* const counts = tables.counts + min(warp, warps - 1) * experts;

  count_chunk(call, chunk, lane, counts);
  for (std::int64_t i = block * kThreads + thread; i < call.counter_count; i += kBlocks * kThreads)
    call.counters[i] = 0;
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
  if constexpr (kBlocks > 1) cg::this_cluster().sync();

  // Every block sums over all experts for itself; the first writes what the sums say.
  RowsAndTiles before{};
  for (std::int64_t start = 0; start < experts; start += kThreads) {
    const std::int64_t expert = start + thread;
    std::int32_t rows = 0;
    std::int32_t in_lower_blocks = 0;
    if (expert < experts) {
      if constexpr (kBlocks > 1) {
        for (int b = 0; b < kBlocks; ++b) {
          if (b == block) in_lower_blocks = rows;
          rows += cg::this_cluster().map_shared_rank(tables.block_counts, static_cast<unsigned>(b))[expert];
        }
      } else {
        rows = tables.block_counts[expert];
      }
    }
    constexpr AddRowsAndTiles kAdd;
    RowsAndTiles sum{}, all{};
    Scan(scan_storage).ExclusiveScan(rows_and_tiles(rows, call.tiles), sum, RowsAndTiles{}, kAdd, all);
    sum = kAdd(before, sum);
    before = kAdd(before, all);
    if (expert < experts) {
      tables.first_rows[expert] = sum.rows + in_lower_blocks;
      if (block == 0) call.order.row_begin[expert] = sum.rows;
    }
    if (block == 0) write_tiles(call.tiles, static_cast<std::int32_t>(expert), rows, sum);
    __syncthreads();  // the next round scans in the same storage; after the last one, first_rows is read
  }
  if (block == 0 && thread == 0) {
    call.order.row_begin[experts] = before.rows;
    for (int i = 0; i < kTileLists; ++i)
      if (call.tiles.of[i].tiles != nullptr) *call.tiles.of[i].count = before.tiles[i];
  }
  if (block == kBlocks - 1 && thread < kWarp && call.shared_tiles.tiles != nullptr) {
    const auto tokens = lane == 0 ? static_cast<std::int32_t>(call.tokens) : 0;
    write_tiles({.of = {call.shared_tiles}}, 0, tokens, {});
    if (lane == 0) *call.shared_tiles.count = cut_rows(tokens, call.shared_tiles).tiles;
  }

  // Nobody leaves while others may read its counts; the barrier before the rows' stores, which it would wait for.
  if constexpr (kBlocks > 1) cg::this_cluster().barrier_arrive();
  place_chunk(call, chunk, lane, counts, tables.first_rows);
  if constexpr (kBlocks > 1) cg::this_cluster().barrier_wait();
}

template <int kThreads>
__device__ void clear(std::int32_t* table, std::int64_t elements) {
  for (std::int64_t i = threadIdx.x; i < elements; i += kThreads) table[i] = 0;
}

__device__ Tables tables_at(std::int32_t* memory, std::int64_t experts, std::int64_t warps) {
  return {memory, memory + warps * experts, memory + (warps + 1) * experts};
}

template <int kThreads, int kBlocks>
__device__ void order_in_shared_memory(const OrderRows& call, std::int64_t warps) {
  extern __shared__ std::int32_t shared_tables[];
  wait_for_previous();
  let_next_start();
  clear<kThreads>(shared_tables, warps * call.experts);
  __syncthreads();
  order<kThreads, kBlocks>(call, warps, tables_at(shared_tables, call.experts, warps));
}

__global__ void __launch_bounds__(kOneBlockThreads) megamoe_order_rows(OrderRows call, std::int64_t warps) {
  order_in_shared_memory<kOneBlockThreads, 1>(call, warps);
}

__global__ void __cluster_dims__(kClusterBlocks) __launch_bounds__(kClusterThreads)
    megamoe_order_rows_cluster(OrderRows call, std::int64_t warps) {
  order_in_shared_memory<kClusterThreads, kClusterBlocks>(call, warps);
}

__global__ void __launch_bounds__(kClusterThreads) megamoe_order_rows_scratch(OrderRows call) {
  wait_for_previous();
  let_next_start();
  auto* const tables = static_cast<std::int32_t*>(call.scratch);
  clear<kClusterThreads>(tables, kScratchWarps * call.experts);
  __syncthreads();
  order<kClusterThreads, 1>(call, kScratchWarps, tables_at(tables, call.experts, kScratchWarps));
}

void launch_in_shared_memory(void (*kernel)(OrderRows, std::int64_t), int blocks, int threads, std::int64_t warps,
                             const OrderRows& call, cudaStream_t stream) {
  const std::int64_t bytes = table_bytes(call.experts, warps);
  // Not this call's bytes: it holds for the process, and another thread may be about to launch with more.
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kCountBytesMax),
             "order rows: shared memory");
  launch(kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(threads), static_cast<std::size_t>(bytes), stream,
         call, warps);
}

}  // namespace

std::size_t order_rows_scratch_bytes(std::int64_t /*tokens*/, std::int64_t /*top_k*/, std::int64_t experts) {
  const bool in_shared_memory = counting_warps(experts, 1, kClusterThreads) > 0;
  return in_shared_memory ? 0 : static_cast<std::size_t>(table_bytes(experts, kScratchWarps));
}

void order_rows(const OrderRows& call, cudaStream_t stream) {
  const std::int64_t choices = call.tokens * call.top_k;
  const bool one_block = choices <= kOneBlockChoices;
  const int blocks = one_block ? 1 : kClusterBlocks;
  const int threads = one_block ? kOneBlockThreads : kClusterThreads;
  const std::int64_t warps = counting_warps(call.experts, (choices + blocks - 1) / blocks, threads);
  if (warps == 0)
    launch(megamoe_order_rows_scratch, 1, kClusterThreads, 0, stream, call);
  else
    launch_in_shared_memory(one_block ? megamoe_order_rows : megamoe_order_rows_cluster, blocks, threads, warps, call,
                            stream);
}

}  // namespace megamoe::cuda
