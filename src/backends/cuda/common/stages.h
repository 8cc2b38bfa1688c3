// The memory-bound stages, one launch each, for every CUDA device. All pointers are device memory, every launch goes to
// `stream`, allocates nothing and depends on no value that lies on the device. Arrays of rows begin at multiples of 16
// bytes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backends/cuda/common/rows.h"
#include "megamoe/moe.h"
#include "megamoe/routing.h"

namespace megamoe::cuda {

// ---- Order rows by expert -------------------------------------------------------------------------------------------

struct OrderRows {
  const std::int32_t* topk_ids = nullptr;  // [tokens, top_k]; ids outside [0, experts) get no row
  std::int64_t tokens = 0;
  std::int64_t top_k = 0;
  std::int64_t experts = 0;
  RowOrder order;
  TileLists tiles;                   // of the routed rows
  TileList shared_tiles;             // of one row a token, expert 0; tiles == nullptr: none wanted
  std::int32_t* counters = nullptr;  // set to 0
  std::int64_t counter_count = 0;
  void* scratch = nullptr;  // order_rows_scratch_bytes(...); where those are 0 it is not touched
};

// For at most `tokens` tokens.
std::size_t order_rows_scratch_bytes(std::int64_t tokens, std::int64_t top_k, std::int64_t experts);
// The first launch of a run: what the caller's kernels wrote is there for all behind it.
void order_rows(const OrderRows& call, cudaStream_t stream);

// ---- Rows that are in order already ---------------------------------------------------------------------------------

// What order_rows gives, for rows that the caller has ordered.
struct TakeOffsets {
  const std::int32_t* expert_offsets =
      nullptr;  // [experts] the row after each expert's last, ascending: inclusive sums
  std::int64_t experts = 0;
  std::int64_t rows = 0;  // offsets beyond it, or below an earlier one, give their expert no rows there
  TileLists tiles;
  std::int32_t* row_begin = nullptr;  // [experts + 1]
  std::int32_t* counters = nullptr;   // set to 0
  std::int64_t counter_count = 0;
};
// The first launch of a call, as order_rows is.
void take_offsets(const TakeOffsets& call, cudaStream_t stream);

// NVFP4 rows as the GEMMs take them.
struct DecodeRows {
  const std::uint8_t* codes = nullptr;  // [rows, cols / 2]
  const std::uint8_t* sf = nullptr;     // [rows, cols / 16]
  std::int64_t rows = 0;
  std::int64_t cols = 0;                    // a multiple of 16
  const float* expert_scale = nullptr;      // [experts] of the rows of each; nullptr: 1
  const std::int32_t* row_begin = nullptr;  // [experts + 1]
  std::int64_t experts = 0;
  std::uint16_t* values = nullptr;  // [rows, cols] bf16 bits of e2m1 * e4m3, exact
  float* global_scale = nullptr;    // [rows]
};
void decode_rows(const DecodeRows& call, cudaStream_t stream);

// ---- Gather and quantise --------------------------------------------------------------------------------------------

enum class BlockRecipe : std::uint8_t { kRne, kBridge };

// Rows of bf16 or f32 to NVFP4, each block's bytes those of megamoe/quant/nvfp4_block.h.
// The output has one row a row of `from`, or, where choice_of is given, one row a routed row: output row r is made of
// `from` row choice_of[r] / top_k.
struct QuantizeRows {
  // One of the two; rows contiguous, of cols columns. Where deinterleave is not 0 (a multiple of 8 that divides cols),
  // a row has 2 * cols columns, groups of `deinterleave` gate columns and as many up columns alternating, gate first,
  // and the gate groups are what is quantised: a fused GEMM that pairs them in its epilogue leaves its result there.
  const std::uint16_t* from_bf16 = nullptr;
  const float* from_f32 = nullptr;
  std::int64_t deinterleave = 0;

  std::int64_t cols = 0;                    // a multiple of 16
  std::int64_t max_rows = 0;                // the grid covers these
  const std::int32_t* row_count = nullptr;  // how many of them there are; nullptr: max_rows
  const std::int32_t* choice_of = nullptr;
  std::int64_t top_k = 1;

  BlockRecipe recipe = BlockRecipe::kRne;
  // The global scale: static_scale[expert of the row], found through row_begin, where static_scale is given and not 0
  // there; else computed per row as the CPU does (megamoe/quant.h, nvfp4_global_scale of the recipe).
  const float* static_scale = nullptr;      // [experts]
  const std::int32_t* row_begin = nullptr;  // [experts + 1]; nullptr: every row has static_scale[0]
  std::int64_t experts = 0;

  // Whatever is not nullptr is written.
  std::uint8_t* codes = nullptr;    // [rows, cols / 2]
  std::uint8_t* sf = nullptr;       // [rows, cols / 16]
  std::uint16_t* values = nullptr;  // [rows, cols] bf16 bits of e2m1 * e4m3: exact, without the global scale
  TileLists tiles;                  // given: values lie in these tiles of the rows (rows.h), not row by row
  float* global_scale = nullptr;    // [rows]

  // Of what the launch in front writes this one reads nothing: it runs beside it, and waits for its end at its own.
  bool beside_previous = false;
  // The launch behind reads, before it waits for this one, nothing of the launch in front of this one: it may be
  // scheduled while this one waits.
  bool next_may_start = false;
};
// At most as many blocks as the device, of so many multiprocessors, runs at the same time.
void quantize_rows(const QuantizeRows& call, int multiprocessors, cudaStream_t stream);

// ---- Combine --------------------------------------------------------------------------------------------------------

// out[t] = sum over j, ascending, of fma(weight[t,j], y[row_of[t,j]], sum), then fma(shared_factor, shared_y[t], sum);
// one rounding. y of a row is the sum of its `parts` in ascending order.
struct Combine {
  std::int64_t tokens = 0;
  std::int64_t top_k = 0;
  std::int64_t hidden = 0;
  std::int64_t experts = 0;
  const std::int32_t* topk_ids = nullptr;  // a token with an id outside [-1, experts) is poisoned: all NaN
  const float* topk_weights = nullptr;     // nullptr: y holds them already (1.0)
  const std::int32_t* row_of = nullptr;    // [tokens, top_k]
  const float* y = nullptr;                // [parts, part_rows, hidden]
  const std::uint16_t* y_bf16 = nullptr;   // instead: [rows, hidden], one part
  std::int64_t parts = 1;
  std::int64_t part_rows = 0;
  const float* shared_y = nullptr;  // [shared_parts, tokens, hidden] or nullptr
  std::int64_t shared_parts = 1;
  const float* shared_factor = nullptr;  // [tokens], or nullptr for 1
  std::uint16_t* output = nullptr;       // one of the two
  float* output_f32 = nullptr;
};
void combine(const Combine& call, cudaStream_t stream);

// factor[t] = sigmoid(x[t] . gate), the sum in double.
void shared_gate(const std::uint16_t* x, const float* gate, std::int64_t tokens, std::int64_t hidden, float* factor,
                 cudaStream_t stream);

// ---- Route ----------------------------------------------------------------------------------------------------------

// megamoe::route on the device: the same rules, ties and poisoning. Logits f32 [tokens, experts]; choice_bias [experts]
// or nullptr.
void route(const RoutingRule& rule, std::int64_t tokens, std::int64_t experts, std::int64_t top_k, const float* logits,
           const float* choice_bias, std::int32_t* topk_ids, float* topk_weights, cudaStream_t stream);

}  // namespace megamoe::cuda
