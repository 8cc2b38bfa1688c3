// Rows of bf16 or f32, gathered or in place, to NVFP4: one block of threads a row, one 16-block of the row a thread.
// A row is read once: it waits in registers for its global scale, and meanwhile the next row is on its way. Rows too
// wide for that are read twice.
#include <algorithm>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/quantize_block.cuh"
#include "backends/cuda/common/stages.h"
#include "megamoe/error.h"

namespace megamoe::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;

template <class Block>
__device__ const typename Block::Element* source(const QuantizeRows& call);
template <>
__device__ const std::uint16_t* source<Bf16Block>(const QuantizeRows& call) {
  return call.from_bf16;
}
template <>
__device__ const float* source<F32Block>(const QuantizeRows& call) {
  return call.from_f32;
}

// Where the two chunks of a row's block lie in a row of the source.
struct SourceColumns {
  std::int64_t width;  // of a row
  std::int64_t chunk[2];

  __device__ SourceColumns(const QuantizeRows& call, std::int64_t block)
      : width(call.deinterleave == 0 ? call.cols : 2 * call.cols) {
    for (int i = 0; i < 2; ++i) {
      const std::int64_t column = block * kNvfp4Block + i * kChunk;
      const std::int64_t group = call.deinterleave;
      chunk[i] = group == 0 ? column : column / group * (2 * group) + column % group;
    }
  }
};

template <class Block>
__device__ Block load(const QuantizeRows& call, std::int64_t source_row, const SourceColumns& columns) {
  const auto* const row = source<Block>(call) + source_row * columns.width;
  Block loaded;
#pragma unroll
  for (int i = 0; i < 2; ++i) loaded.load_chunk(i, row + columns.chunk[i]);
  return loaded;
}

// The largest of all threads' bits. `slots` must not be the one of the call before, whose values may still be read.
__device__ std::uint32_t block_max(std::uint32_t bits, std::uint32_t* slots) {
  const unsigned lane = threadIdx.x % kWarp;
  bits = __reduce_max_sync(~0u, bits);
  if (lane == 0) slots[threadIdx.x / kWarp] = bits;
  __syncthreads();
  return __reduce_max_sync(~0u, lane < blockDim.x / kWarp ? slots[lane] : 0u);
}

// The last of `count` that begins at or before `row`, where begin(i) ascends. A whole warp looks, at 32 at a time.
template <class Begin>
__device__ std::int64_t last_at_or_before(std::int64_t row, std::int64_t count, const Begin& begin) {
  std::int64_t low = 0;
  std::int64_t high = count;
  while (high - low > 1) {
    const std::int64_t stride = (high - low + kWarp - 1) / kWarp;
    const std::int64_t probe = low + static_cast<std::int64_t>(threadIdx.x % kWarp) * stride;
    const unsigned at_or_before = __ballot_sync(~0u, probe < high && begin(probe) <= row);
    low += (__popc(at_or_before) - 1) * stride;
    high = min(low + stride, high);
  }
  return low;
}

__device__ std::int64_t expert_of(std::int64_t row, const std::int32_t* row_begin, std::int64_t experts) {
  return last_at_or_before(row, experts, [&](std::int64_t expert) { return row_begin[expert]; });
}

// Where the values of a row lie: one row after the other, or in tiles.
class Values {
 public:
  // The whole warp.
  __device__ Values(const QuantizeRows& call, std::int64_t row) : blocks_(call.cols / kNvfp4Block) {
    TokenTile tile;
    for (const TileList& list : call.tiles.of) {
      if (list.tiles == nullptr) continue;
      tile = tile_of(row, list);
      if (row < tile.row + tile.rows) break;
    }
    if (tile.rows == 0) {
      row_ = call.values + row * call.cols;
      return;
    }
    tile_columns_ = tiled_columns(tile.rows);
    column_ = row - tile.row;
    row_ = call.values + tiled_begin(tile) * tiled_k(call.cols);
    blocks_ = tiled_k(call.cols) / kNvfp4Block;
  }
  __device__ std::uint16_t* at(std::int64_t k) const {
    return row_ + (tile_columns_ == 0 ? k : tiled_at(tile_columns_, column_, k));
  }
  __device__ std::int64_t blocks() const { return blocks_; }  // with those of zeros that pad a tile's K

 private:
  // The last tile of a list that begins at or before the row; one without rows where there is none.
  static __device__ TokenTile tile_of(std::int64_t row, const TileList& list) {
    const std::int32_t count = *list.count;
    if (count == 0 || list.tiles[0].row > row) return {};
    return list.tiles[last_at_or_before(row, count, [&](std::int64_t tile) { return list.tiles[tile].row; })];
  }

  std::uint16_t* row_;
  std::int64_t blocks_;
  std::int64_t tile_columns_ = 0;
  std::int64_t column_ = 0;
};

__device__ float static_scale(const QuantizeRows& call, std::int64_t row) {
  if (call.static_scale == nullptr) return 0.0f;
  return call.static_scale[call.row_begin == nullptr ? 0 : expert_of(row, call.row_begin, call.experts)];
}

// PTX ISA 9.7.9.11, st. By hand: nvcc 13.0 takes some 16-byte assignments apart.
__device__ void store_16_bytes(void* at, const std::uint32_t (&words)[4]) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(at), "r"(words[0]), "r"(words[1]), "r"(words[2]),
               "r"(words[3])
               : "memory");
}

// A lane's 32 bytes of values, stored by two lanes together: each of the two stores fills whole 32-byte sectors.
__device__ void store_values(const Quantised& out, const Values& row, std::int64_t block) {
  const bool odd = block % 2 != 0;
  std::uint32_t first[4];   // of the even lane's block
  std::uint32_t second[4];  // of the odd lane's
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const std::uint32_t other = __shfl_xor_sync(~0u, odd ? out.values[i] : out.values[4 + i], 1);
    first[i] = odd ? other : out.values[i];
    second[i] = odd ? out.values[4 + i] : other;
  }
  const std::int64_t even_block = block - block % 2;
  const std::int64_t k = even_block * kNvfp4Block + (odd ? kChunk : 0);
  if (even_block < row.blocks()) store_16_bytes(row.at(k), first);
  if (even_block + 1 < row.blocks()) store_16_bytes(row.at(k + kNvfp4Block), second);
}

// All threads of the warp call this; those with block >= blocks only help to store.
template <class Block, BlockRecipe kRecipe>
__device__ void write_block(const QuantizeRows& call, const Block& loaded, std::int64_t row, std::int64_t block,
                            std::int64_t blocks, float global_scale) {
  Quantised out{};
  if (block < blocks) {
    quantize<Block, kRecipe>(loaded, global_scale, call.codes != nullptr, call.values != nullptr, out);
    const std::int64_t at = row * blocks + block;
    if (call.codes != nullptr)
      *reinterpret_cast<uint2*>(call.codes + at * kNvfp4BlockBytes) = {out.codes[0], out.codes[1]};
    if (call.sf != nullptr) call.sf[at] = out.sf;
  }
  if (call.values != nullptr) store_values(out, Values(call, row), block);
}

// Walks the rows of this block of threads: rows blockIdx.x, blockIdx.x + gridDim.x, ...
class Rows {
 public:
  __device__ explicit Rows(const QuantizeRows& call)
      : call_(call),
        count_(call.row_count != nullptr ? min(call.max_rows, std::int64_t{*call.row_count}) : call.max_rows) {}
  __device__ bool has(std::int64_t row) const { return row < count_; }
  // What to ask source_row() with, once it has arrived from memory.
  __device__ std::int64_t choice(std::int64_t row) const {
    return call_.choice_of != nullptr && has(row) ? call_.choice_of[row] : row;
  }
  __device__ std::int64_t source_row(std::int64_t choice) const {
    return call_.choice_of != nullptr ? static_cast<std::uint32_t>(choice) / static_cast<std::uint32_t>(call_.top_k)
                                      : choice;
  }

 private:
  const QuantizeRows& call_;
  std::int64_t count_;
};

__device__ void begin(const QuantizeRows& call) {
  if (call.next_may_start) let_next_start();
  if (!call.beside_previous) wait_for_previous();
  if (!call.next_may_start) let_next_start();
}
__device__ void end(const QuantizeRows& call) {
  if (call.beside_previous) wait_for_previous();
}

// At most kMaxThreads blocks in a row, one a thread.
template <class Block, BlockRecipe kRecipe>
__global__ void __launch_bounds__(kMaxThreads) megamoe_quantize_rows(QuantizeRows call) {
  __shared__ std::uint32_t slots[2][kMaxThreads / kWarp];
  begin(call);
  const Rows rows(call);
  const std::int64_t blocks = call.cols / kNvfp4Block;
  const std::int64_t block = threadIdx.x;
  const std::int64_t grid = gridDim.x;
  const SourceColumns columns(call, block);

  Block current;
  std::int64_t row = blockIdx.x;
  if (rows.has(row) && block < blocks) current = load<Block>(call, rows.source_row(rows.choice(row)), columns);
  std::int64_t next_choice = rows.choice(row + grid);
  for (int computed = 0; rows.has(row); row += grid) {
    Block next;
    if (rows.has(row + grid) && block < blocks) next = load<Block>(call, rows.source_row(next_choice), columns);
    next_choice = rows.choice(row + 2 * grid);

    float global_scale = static_scale(call, row);
    if (global_scale == 0.0f)
      global_scale = computed_scale<kRecipe>(block_max(amax_bits<Block, kRecipe>(current), slots[computed++ % 2]));
    write_block<Block, kRecipe>(call, current, row, block, blocks, global_scale);
    if (call.global_scale != nullptr && threadIdx.x == 0) call.global_scale[row] = global_scale;
    current = next;
  }
  end(call);
}

// Any width: each row is read twice.
template <class Block, BlockRecipe kRecipe>
__global__ void __launch_bounds__(kMaxThreads) megamoe_quantize_wide_rows(QuantizeRows call) {
  __shared__ std::uint32_t slots[2][kMaxThreads / kWarp];
  begin(call);
  const Rows rows(call);
  const std::int64_t blocks = call.cols / kNvfp4Block;
  int computed = 0;
  for (std::int64_t row = blockIdx.x; rows.has(row); row += gridDim.x) {
    const std::int64_t source_row = rows.source_row(rows.choice(row));
    float global_scale = static_scale(call, row);
    if (global_scale == 0.0f) {
      std::uint32_t bits = 0;
      for (std::int64_t block = threadIdx.x; block < blocks; block += kMaxThreads)
        bits = max(bits, amax_bits<Block, kRecipe>(load<Block>(call, source_row, SourceColumns(call, block))));
      global_scale = computed_scale<kRecipe>(block_max(bits, slots[computed++ % 2]));
    }
    for (std::int64_t first = 0; first < blocks; first += kMaxThreads) {
      const std::int64_t block = first + threadIdx.x;
      const Block loaded = block < blocks ? load<Block>(call, source_row, SourceColumns(call, block)) : Block{};
      write_block<Block, kRecipe>(call, loaded, row, block, blocks, global_scale);
    }
    if (call.global_scale != nullptr && threadIdx.x == 0) call.global_scale[row] = global_scale;
  }
  end(call);
}

template <class Block, BlockRecipe kRecipe>
void launch_rows(const QuantizeRows& call, int multiprocessors, cudaStream_t stream) {
  const std::int64_t blocks = call.cols / kNvfp4Block;
  const bool wide = blocks > kMaxThreads;
  const std::int64_t threads = wide ? kMaxThreads : (blocks + kWarp - 1) / kWarp * kWarp;
  // As many as run at the same time: each then has its next row on the way.
  const std::int64_t grid =
      std::min<std::int64_t>(call.max_rows, multiprocessors * std::min<std::int64_t>(kMaxThreads / threads, 16));
  launch(wide ? megamoe_quantize_wide_rows<Block, kRecipe> : megamoe_quantize_rows<Block, kRecipe>,
         static_cast<unsigned>(grid), static_cast<unsigned>(threads), 0, stream, call);
}

}  // namespace

void quantize_rows(const QuantizeRows& call, int multiprocessors, cudaStream_t stream) {
  if (call.max_rows == 0) return;
  if (call.cols <= 0 || call.cols % kNvfp4Block != 0)
    throw Error(Code::kInvalidArgument, "quantize rows: asked ", call.cols, " columns, accepted: multiples of ",
                kNvfp4Block);
  if (call.deinterleave % kChunk != 0 || (call.deinterleave != 0 && call.cols % call.deinterleave != 0))
    throw Error(Code::kInvalidArgument, "quantize rows: asked groups of ", call.deinterleave, " for ", call.cols,
                " columns, accepted: multiples of ", kChunk, " that divide the columns");
  const bool bf16 = call.from_bf16 != nullptr;
  const bool rne = call.recipe == BlockRecipe::kRne;
  const auto launch_recipe =
      bf16 ? (rne ? launch_rows<Bf16Block, BlockRecipe::kRne> : launch_rows<Bf16Block, BlockRecipe::kBridge>)
           : (rne ? launch_rows<F32Block, BlockRecipe::kRne> : launch_rows<F32Block, BlockRecipe::kBridge>);
  launch_recipe(call, multiprocessors, stream);
}

}  // namespace megamoe::cuda
