// What lies in a plan's workspace, and where: one walk counts its bytes and carves it.
#pragma once

#include <algorithm>
#include <span>

#include "backends/cuda/common/stages.h"
#include "backends/cuda/sm90/plan.h"
#include "base/arena.h"

namespace megamoe::sm90 {

// Counters that a run begins at zero. First, for each list of routed rows' tiles and for the shared rows, claims of
// both GEMMs' items and two of what is gathered.
inline constexpr std::int64_t kLaunchClaims = 4;
inline constexpr std::int64_t kClaims = (cuda::kTileLists + 1) * kLaunchClaims;

// NVFP4 activations as the GEMMs take them: E2M1 * E4M3 in bf16, which is exact, and a scale a row.
struct QuantizedRows {
  std::span<std::uint16_t> values;  // [rows, cols]; empty: the rows are bf16 already
  std::span<float> scale;           // [rows]

  QuantizedRows() = default;
  QuantizedRows(Carver& carver, std::int64_t rows, std::int64_t cols)
      : values(carver.take<std::uint16_t>(rows * cols)), scale(carver.take<float>(rows)) {}
};

// What the two GEMMs of one bank work on.
struct Rows {
  std::int64_t count = 0;  // at most
  QuantizedRows x;
  std::span<float> h_f32;           // [rows, inter], where h is quantised by rows
  std::span<std::uint16_t> h_bf16;  // [rows, inter], where it is not
  QuantizedRows h;
  std::span<std::uint16_t> x_tiles;  // for the tile loop, RowGather::to
  std::span<std::uint16_t> h_tiles;  // for the tile loop
  std::span<float> y;                // [parts, rows, hidden]
  std::span<float> partials;
  TokenTiles tiles;
  std::span<std::int32_t> tile_counts;
  std::span<std::int32_t> ready;     // RowGather's
  std::span<std::int32_t> finished;  // Gemm's
  std::span<std::int32_t> arrivals;
};

struct Sm90Plan::Workspace {
  cuda::RowOrder order;
  std::span<std::int32_t> counters;
  std::span<std::byte> order_scratch;
  std::span<float> shared_factor;
  Rows routed, shared;

  Workspace(Carver& carver, const Sm90Plan& plan) {
    const Problem& problem = plan.weights_->problem();
    const std::int64_t tokens = plan.max_tokens_;
    const std::int64_t rows = tokens * problem.top_k;
    order.row_begin = carver.take<std::int32_t>(problem.experts + 1).data();
    order.row_of = carver.take<std::int32_t>(rows).data();
    order.choice_of = carver.take<std::int32_t>(rows).data();
    order_scratch = carver.take<std::byte>(
        static_cast<std::int64_t>(cuda::order_rows_scratch_bytes(tokens, problem.top_k, problem.experts)));
    // Counters are zeroed as one array, from its start to the last that a call needs: nothing lies between them.
    const Largest& routed_most = plan.routed_most_;
    const Largest& shared_most = plan.shared_most_;
    const auto counters_of = [](const Largest& most) { return most.ready + most.finished + most.arrivals; };
    counters = carver.take<std::int32_t>(kClaims + counters_of(routed_most) + counters_of(shared_most));
    auto rest = counters.subspan(kClaims);
    const auto take_counters = [&](std::int64_t count) {
      const auto taken = rest.first(static_cast<std::size_t>(count));
      rest = rest.subspan(taken.size());
      return taken;
    };
    routed.ready = take_counters(routed_most.ready);
    shared.ready = take_counters(shared_most.ready);
    routed.finished = take_counters(routed_most.finished);
    shared.finished = take_counters(shared_most.finished);
    routed.arrivals = take_counters(routed_most.arrivals);
    shared.arrivals = take_counters(shared_most.arrivals);

    const bool per_expert_x = problem.activation_scale == ActivationScale::kStatic;
    take(carver, routed, problem.activations, rows, per_expert_x ? rows : tokens, problem.hidden, problem.inter,
         problem.experts, routed_most);
    if (problem.shared.inter == 0) return;
    take(carver, shared, shared_activations(problem), tokens, tokens, problem.hidden, problem.shared.inter, 1,
         shared_most);
    if (problem.shared.gated) shared_factor = carver.take<float>(tokens);
  }

 private:
  static void take(Carver& carver, Rows& out, ActivationFormat format, std::int64_t rows, std::int64_t x_rows,
                   std::int64_t hidden, std::int64_t inter, std::int64_t experts, const Largest& most) {
    out.count = rows;
    if (format == ActivationFormat::kNvfp4) {
      out.x = QuantizedRows(carver, x_rows, hidden);
      out.h_f32 = carver.take<float>(rows * inter);
      out.h = QuantizedRows(carver, rows, inter);
    } else {
      out.h_bf16 = carver.take<std::uint16_t>(rows * inter);
    }
    out.x_tiles = carver.take<std::uint16_t>(most.gathered);
    out.h_tiles = carver.take<std::uint16_t>(most.tiled * cuda::tiled_k(inter));
    out.y = carver.take<float>(std::max(most.y_rows, rows) * hidden);
    out.partials = carver.take<float>(most.partials);
    for (auto& tiles : out.tiles) tiles = carver.take<cuda::TokenTile>(std::max(most.tiles, std::min(rows, experts)));
    out.tile_counts = carver.take<std::int32_t>(cuda::kTileLists);
  }
};

}  // namespace megamoe::sm90
