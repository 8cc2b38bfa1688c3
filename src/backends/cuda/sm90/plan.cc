#include "backends/cuda/sm90/plan.h"

#include <algorithm>
#include <string>

#include "backends/cuda/common/stages.h"
#include "backends/cuda/sm90/stream_config.h"
#include "backends/cuda/sm90/workspace.h"
#include "base/cuda_check.h"

namespace megamoe::sm90 {
namespace {

// Tokens of a batch whose kernels describe() names.
constexpr std::int64_t kDescribed[] = {1, 16, 256, 1024, 4096, 8192};

// From so many elements on y is kept in bf16: one more rounding a row, half of the bytes that prefill writes and reads
// between the second GEMM and the sum over experts (4 % of the time of a large batch).
constexpr std::int64_t kRoundedElements = std::int64_t{1} << 24;

// What a stage timer is told, of the routed rows and of the shared expert's.
struct StageNames {
  std::string_view gemm1, quantize_h, gemm2;
};
constexpr StageNames kRoutedStages{"gemm 1", "quantize h", "gemm 2"};
constexpr StageNames kSharedStages{"shared gemm 1", "shared quantize h", "shared gemm 2"};

std::int64_t items(const Kernel& kernel, const GemmWeights& weights, std::int64_t rows, std::int64_t experts) {
  return cuda::most_tiles(rows, experts, kernel.max_rows) * weights.panels;
}

std::int64_t partial_floats(const Choice& choice, const GemmWeights& weights, std::int64_t rows, std::int64_t experts) {
  if (choice.parts_gate_up == 1) return 0;
  return items(choice.usual(), weights, rows, experts) * choice.parts_gate_up * choice.usual().max_rows / 8 *
         kPanelThreads * 4;
}

std::int64_t arrival_count(const Choice& choice, const GemmWeights& weights, std::int64_t rows, std::int64_t experts) {
  return choice.parts_gate_up == 1 ? 0 : items(choice.usual(), weights, rows, experts) * kPanelWarps;
}

}  // namespace

Sm90Plan::Sm90Plan(std::shared_ptr<const Sm90Weights> weights, const PlanOptions& options, int multiprocessors)
    : weights_(std::move(weights)),
      max_tokens_(options.max_tokens),
      multiprocessors_(multiprocessors),
      forced_(forced_kernel()) {
  allow_shared_memory();
  routed_most_ = largest(false);
  if (weights_->problem().shared.inter != 0) shared_most_ = largest(true);
  Carver count{std::span<std::byte>()};
  Workspace(count, *this);
  workspace_bytes_ = count.bytes();
}

Sm90Plan::Largest Sm90Plan::largest(bool is_shared) const {
  const Problem& problem = weights_->problem();
  const ExpertBank& bank = is_shared ? weights_->shared() : weights_->routed();
  const GemmWeights weights = bank.gemm(GemmKind::kGateUp);
  Largest most;
  const auto grow = [&](std::int64_t tokens) {
    const Choice choice = is_shared ? shared_choice(tokens) : routed_choice(tokens);
    const std::int64_t rows = is_shared ? tokens : tokens * problem.top_k;
    most.partials = std::max(most.partials, partial_floats(choice, weights, rows, bank.experts()));
    most.arrivals = std::max(most.arrivals, arrival_count(choice, weights, rows, bank.experts()));
    // The next larger count may have the tiles of this one's kernel, and twice its tokens at most.
    most.tiles = std::max(most.tiles, cuda::most_tiles(2 * rows, bank.experts(), choice.usual().max_rows));
    most.y_rows = std::max(most.y_rows, choice.parts_down * rows);
    if (!choice.usual().streams) {
      most.tiled = std::max(most.tiled, cuda::tiled_size(rows, most.tiles));
      most.finished = most.tiles;
      most.ready = most.tiles * gather_chunks(problem.hidden);
    }
  };
  // Up to kMostCutRows every count is looked at: only there is K cut into parts.
  for (std::int64_t t = 1; t <= max_tokens_;
       t = t < kMostCutRows ? t + 1 : std::min(2 * t, std::max(max_tokens_, t + 1)))
    grow(t);
  most.gathered = most_gathered(is_shared ? shared_sizes(max_tokens_) : routed_sizes(max_tokens_), !is_shared,
                                weights.panels, problem.hidden, bank.experts(), multiprocessors_);
  return most;
}

GemmSizes Sm90Plan::routed_sizes(std::int64_t tokens) const {
  const Problem& problem = weights_->problem();
  return {.weights = problem.weights,
          .hidden = problem.hidden,
          .inter = problem.inter,
          .rows = tokens * problem.top_k,
          .active = expected_active(problem.experts, problem.top_k, tokens),
          .forced = forced_};
}

GemmSizes Sm90Plan::shared_sizes(std::int64_t tokens) const {
  const Problem& problem = weights_->problem();
  return {.weights = problem.shared.weights,
          .hidden = problem.hidden,
          .inter = problem.shared.inter,
          .rows = tokens,
          .active = 1,
          .forced = forced_};
}

Choice Sm90Plan::routed_choice(std::int64_t tokens) const { return choose(routed_sizes(tokens)); }

bool Sm90Plan::rounds(std::int64_t tokens, const Choice& routed) const {
  const Problem& problem = weights_->problem();
  return tokens * problem.top_k * problem.hidden >= kRoundedElements && routed.parts_down == 1;
}

Choice Sm90Plan::shared_choice(std::int64_t tokens) const {
  Choice choice = choose(shared_sizes(tokens));
  choice.kernels[kFew] = choice.kernels[kMany] = nullptr;  // one expert has all rows
  return choice;
}

std::string Sm90Plan::describe() const {
  std::string text = "cuda/sm90: " + std::to_string(multiprocessors_) + " SMs; tokens: kernel (parts of K)";
  for (const std::int64_t tokens : kDescribed) {
    if (tokens > max_tokens_) break;
    const Choice choice = routed_choice(tokens);
    text += "; " + std::to_string(tokens) + ": " + std::string(choice.usual().name);
    if (choice.kernels[kFew] != nullptr) text += ", few rows " + std::string(choice.kernels[kFew]->name);
    if (choice.kernels[kMany] != nullptr) text += ", many " + std::string(choice.kernels[kMany]->name);
    text += " (" + std::to_string(choice.parts_gate_up) + ", " + std::to_string(choice.parts_down) + ")";
  }
  return text;
}

void Sm90Plan::run(const RunArgs& args) const {
  const Problem& problem = weights_->problem();
  const std::int64_t tokens = args.tokens;
  if (tokens == 0) return;
  auto* const stream = static_cast<cudaStream_t>(args.stream);
  const bool has_shared = problem.shared.inter != 0;
  const bool weighs_rows = problem.topk_weight == TopkWeightPlace::kBeforeGemm2;
  const bool is_static = problem.activation_scale == ActivationScale::kStatic;
  Carver carver(args.workspace);
  const Workspace space(carver, *this);
  const auto done = [&](std::string_view stage) {
    if (args.stage_timer != nullptr) args.stage_timer->stage(stage, args.stream);
  };

  const Choice routed_kernels = routed_choice(tokens);
  const Choice shared_kernels = has_shared ? shared_choice(tokens) : Choice{};
  const bool rounds_y = rounds(tokens, routed_kernels);
  const auto tiles_of = [&](const Rows& rows, const Choice& choice, bool routed) {
    return tile_lists(choice, rows.tiles, rows.tile_counts.data(), routed ? tokens * problem.top_k : tokens,
                      routed ? problem.experts : 1);
  };

  // Order rows by expert.
  cuda::OrderRows ordering{.topk_ids = args.topk_ids.data(),
                           .tokens = tokens,
                           .top_k = problem.top_k,
                           .experts = problem.experts,
                           .order = space.order,
                           .tiles = tiles_of(space.routed, routed_kernels, true),
                           .counters = space.counters.data(),
                           .counter_count = kClaims,
                           .scratch = space.order_scratch.data()};
  if (has_shared) ordering.shared_tiles = tiles_of(space.shared, shared_kernels, false).of[kUsual];
  const auto any = [&](const auto& holds) { return holds(routed_kernels) || (has_shared && holds(shared_kernels)); };
  if (any([](const Choice& choice) { return !choice.usual().streams; }))
    ordering.counter_count += static_cast<std::int64_t>(space.routed.ready.size() + space.shared.ready.size() +
                                                        space.routed.finished.size() + space.shared.finished.size());
  if (any([](const Choice& choice) { return choice.parts_gate_up > 1; }))
    ordering.counter_count = static_cast<std::int64_t>(space.counters.size());
  // Of a short call every block orders the rows itself, and GEMM 1 is the first launch. Not where its own parts of K
  // meet: they count arrivals, which somebody in front must set to zero; nor where x is quantised by rows.
  const bool quantizes_x = !space.routed.x.values.empty();
  const bool orders_itself = routed_kernels.usual().streams && routed_kernels.parts_gate_up == 1 &&
                             tokens * problem.top_k <= kOwnOrderChoices && !(quantizes_x && is_static);
  if (!orders_itself) {
    cuda::order_rows(ordering, stream);
    done("order");
  }

  // Quantise tokens; with a scale an expert, each row apart.
  const auto quantize_x = [&](const ExpertBank& bank, const Rows& rows, bool routed) {
    if (rows.x.values.empty()) return;
    cuda::QuantizeRows call{.from_bf16 = args.x.data(),
                            .cols = problem.hidden,
                            .max_rows = tokens,
                            .values = rows.x.values.data(),
                            .global_scale = rows.x.scale.data()};
    if (is_static) call.static_scale = bank.input_scale(GemmKind::kGateUp);
    // Tokens need no order.
    call.beside_previous = routed && !is_static && !orders_itself;
    if (is_static && routed) {
      call.max_rows = tokens * problem.top_k;
      call.row_count = space.order.row_begin + problem.experts;
      call.choice_of = space.order.choice_of;
      call.top_k = problem.top_k;
      call.row_begin = space.order.row_begin;
      call.experts = problem.experts;
    }
    cuda::quantize_rows(call, multiprocessors_, stream);
    done("quantize x");
  };
  const auto quantize_h = [&](const ExpertBank& bank, const Rows& rows, const Choice& choice, bool routed) {
    const bool streams = choice.usual().streams;
    cuda::QuantizeRows call{.from_f32 = rows.h_f32.data(),
                            .cols = bank.inter(),
                            .max_rows = routed ? tokens * problem.top_k : tokens,
                            .values = streams ? rows.h.values.data() : rows.h_tiles.data(),
                            .global_scale = rows.h.scale.data(),
                            .next_may_start = true};  // tiles and ids were there before the first GEMM
    if (!streams) call.tiles = tiles_of(rows, choice, routed);
    if (is_static) call.static_scale = bank.input_scale(GemmKind::kDown);
    if (routed) call.row_count = space.order.row_begin + problem.experts;
    if (is_static && routed) {
      call.row_begin = space.order.row_begin;
      call.experts = problem.experts;
    }
    cuda::quantize_rows(call, multiprocessors_, stream);
  };

  // Both GEMMs of a bank.
  const auto run_bank = [&](const ExpertBank& bank, const Rows& rows, const Choice& choice, bool routed,
                            std::int32_t* claims, const StageNames& names) {
    const bool x_is_quantized = !rows.x.values.empty();
    const bool h_is_quantized = !rows.h.values.empty();
    const bool streams = choice.usual().streams;
    const bool own = routed && orders_itself;
    const bool gathers = routed && !(x_is_quantized && is_static);
    const cuda::TileLists tiles = tiles_of(rows, choice, routed);
    Gemm gemm{.weights = bank.gemm(GemmKind::kGateUp),
              .x = x_is_quantized ? rows.x.values.data() : args.x.data(),
              .x_scale = x_is_quantized ? rows.x.scale.data() : nullptr,
              .gather_top_k = gathers ? static_cast<std::int32_t>(problem.top_k) : 0,
              .choice_of = routed ? space.order.choice_of : nullptr,
              .tiles_are_ready = !routed || (x_is_quantized && (own || is_static)),
              .claims = claims,
              .arrivals = rows.arrivals.data(),
              .partials = rows.partials.data(),
              .parts = choice.parts_gate_up,
              .activation = problem.activation,
              .row_weight = routed && weighs_rows ? args.topk_weights.data() : nullptr,
              .h_bf16 = streams && !h_is_quantized ? rows.h_bf16.data() : nullptr,
              .h_tiles = streams || h_is_quantized ? nullptr : rows.h_tiles.data(),
              .h_f32 = rows.h_f32.data()};
    // What lies in rows comes into tiles on the way. The second GEMM need not wait for the end of the first: its last
    // items, one after the other, would leave most of the device idle.
    const bool tile_by_tile = !streams && !h_is_quantized;
    if (tile_by_tile) gemm.finished = rows.finished.data();
    if (!streams)
      gemm.gather = {.from = gemm.x, .to = rows.x_tiles.data(), .claims = claims + 2, .ready = rows.ready.data()};
    if (own) {
      gemm.own_ids = args.topk_ids.data();
      gemm.own_choices = static_cast<std::int32_t>(tokens * problem.top_k);
      gemm.own_experts = static_cast<std::int32_t>(problem.experts);
      gemm.order_here = ordering;
    }
    launch(choice.kernels, tiles, GemmKind::kGateUp, gemm, kLaunchClaims, multiprocessors_, stream);
    gemm.order_here = {};
    done(names.gemm1);

    if (h_is_quantized) {
      quantize_h(bank, rows, choice, routed);
      done(names.quantize_h);
    }
    gemm.weights = bank.gemm(GemmKind::kDown);
    gemm.gather = {};
    gemm.x = !streams ? rows.h_tiles.data() : h_is_quantized ? rows.h.values.data() : rows.h_bf16.data();
    gemm.x_scale = h_is_quantized ? rows.h.scale.data() : nullptr;
    gemm.gather_top_k = 0;
    gemm.tiles_are_ready = true;
    gemm.beside_previous = tile_by_tile;
    gemm.finished_panels = bank.gemm(GemmKind::kGateUp).panels;
    gemm.claims = claims + 1;
    gemm.parts = choice.parts_down;
    if (routed && rounds_y)
      gemm.y_bf16 = reinterpret_cast<std::uint16_t*>(rows.y.data());
    else
      gemm.y = rows.y.data();
    gemm.part_rows = routed ? tokens * problem.top_k : tokens;
    launch(choice.kernels, tiles, GemmKind::kDown, gemm, kLaunchClaims, multiprocessors_, stream);
    done(names.gemm2);
  };
  quantize_x(weights_->routed(), space.routed, true);
  run_bank(weights_->routed(), space.routed, routed_kernels, true, space.counters.data(), kRoutedStages);
  if (has_shared) {
    quantize_x(weights_->shared(), space.shared, false);
    run_bank(weights_->shared(), space.shared, shared_kernels, false,
             space.counters.data() + cuda::kTileLists * kLaunchClaims, kSharedStages);
    if (problem.shared.gated)
      cuda::shared_gate(args.x.data(), weights_->shared_gate(), tokens, problem.hidden, space.shared_factor.data(),
                        stream);
  }

  cuda::combine({.tokens = tokens,
                 .top_k = problem.top_k,
                 .hidden = problem.hidden,
                 .experts = problem.experts,
                 .topk_ids = args.topk_ids.data(),
                 .topk_weights = weighs_rows ? nullptr : args.topk_weights.data(),
                 .row_of = space.order.row_of,
                 .y = rounds_y ? nullptr : space.routed.y.data(),
                 .y_bf16 = rounds_y ? reinterpret_cast<const std::uint16_t*>(space.routed.y.data()) : nullptr,
                 .parts = routed_kernels.parts_down,
                 .part_rows = tokens * problem.top_k,
                 .shared_y = has_shared ? space.shared.y.data() : nullptr,
                 .shared_parts = has_shared ? shared_kernels.parts_down : 1,
                 .shared_factor = problem.shared.gated ? space.shared_factor.data() : nullptr,
                 .output = args.output.empty() ? nullptr : args.output.data(),
                 .output_f32 = args.output_f32.empty() ? nullptr : args.output_f32.data()},
                stream);
  done("combine");

  if (args.intermediate == nullptr) return;
  hand_out(args, space);
}

}  // namespace megamoe::sm90
