#include "bench/tool_timer.h"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>

#include "bench/new_pages.h"
#include "bench/read_probe.h"
#include "bench/synthetic.h"
#include "megamoe/error.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"

namespace megamoe::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kCopyChunk = std::size_t{4} << 20;

double seconds_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void on_threads(int threads, std::int64_t steps, const std::function<void(std::int64_t)>& step) {
  tbb::task_arena arena(threads > 0 ? threads : tbb::this_task_arena::max_concurrency());
  arena.execute([&] { tbb::parallel_for(std::int64_t{0}, steps, step); });
}

// Of at most kCopyChunk bytes each.
std::vector<std::span<const std::byte>> pieces_of(const std::vector<std::span<const std::byte>>& memory) {
  std::vector<std::span<const std::byte>> pieces;
  for (std::span<const std::byte> rest : memory)
    for (; !rest.empty(); rest = rest.subspan(pieces.back().size()))
      pieces.push_back(rest.first(std::min(kCopyChunk, rest.size())));
  return pieces;
}

struct Round {
  double seconds;
  double floor_before, floor_after;

  double floor() const { return 0.5 * (floor_before + floor_after); }
};

// Runs both in turn, `rounds` times and for `seconds`, after one round that counts for nothing.
void measure_rounds(const TimerOptions& options, const std::function<double()>& work,
                    const std::function<double()>& floor, ToolMeasurement& result) {
  std::vector<Round> rounds;
  work();
  double before = floor();
  for (double spent = 0.0; static_cast<int>(rounds.size()) < options.rounds || spent < options.seconds;) {
    Round round{.seconds = work(), .floor_before = before, .floor_after = 0.0};
    before = round.floor_after = floor();
    spent += round.seconds + round.floor_after;
    rounds.push_back(round);
  }
  std::vector<Round> quiet;
  std::copy_if(rounds.begin(), rounds.end(), std::back_inserter(quiet),
               [](const Round& r) { return !is_disturbed(r.floor_before, r.floor_after); });
  if (are_enough(quiet.size(), rounds.size())) {
    result.dropped = static_cast<int>(rounds.size() - quiet.size());
    rounds = std::move(quiet);
  }
  std::vector<double> seconds, floors, quotients;
  for (const Round& round : rounds) {
    seconds.push_back(round.seconds);
    floors.push_back(round.floor());
    quotients.push_back(round.seconds / round.floor());
  }
  result.repeats = static_cast<int>(rounds.size());
  result.min_s = *std::min_element(seconds.begin(), seconds.end());
  result.median_s = median(std::move(seconds));
  result.floor_s = median(std::move(floors));
  result.over_floor = median(std::move(quotients));
}

void require_bytes_of_rne(const ConstTensorView& weights, const Nvfp4Output& out) {
  const std::int64_t k = weights.shape[1];
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k / 2)), sf(static_cast<std::size_t>(k / kNvfp4Block));
  std::vector<float> row(static_cast<std::size_t>(k));
  for (std::int64_t r = 0; r < weights.shape[0]; ++r) {
    for (std::int64_t i = 0; i < k; ++i) {
      std::uint32_t bits = 0;
      std::memcpy(reinterpret_cast<std::byte*>(&bits) + 2,
                  static_cast<const std::byte*>(weights.data) + 2 * (r * k + i), 2);
      std::memcpy(&row[static_cast<std::size_t>(i)], &bits, sizeof bits);
    }
    quantize_nvfp4_row(QuantRecipe::kRne, row, out.global_scales[0], codes.data(), sf.data());
    const auto at = static_cast<std::size_t>(r);
    if (!std::equal(codes.begin(), codes.end(), out.codes.begin() + static_cast<std::ptrdiff_t>(at * codes.size())) ||
        !std::equal(sf.begin(), sf.end(), out.sf.begin() + static_cast<std::ptrdiff_t>(at * sf.size())))
      throw Error(Code::kInternal, "bench: quantize_nvfp4 is wrong in row ", r);
  }
}

}  // namespace

HeldExperts::HeldExperts(const Problem& problem, const ExpertSource& source)
    : source_(source), experts_(static_cast<std::size_t>(problem.experts)) {
  for (std::size_t e = 0; e < experts_.size(); ++e)
    experts_[e].view = source.expert(static_cast<std::int64_t>(e), experts_[e].memory);
  if (problem.shared.inter > 0) shared_.view = source.shared_expert(shared_.memory);
}

ExpertView HeldExperts::expert(std::int64_t index, ExpertScratch& /*scratch*/) const {
  return experts_[static_cast<std::size_t>(index)].view;
}

std::vector<std::span<const std::byte>> HeldExperts::memory() const {
  std::vector<std::span<const std::byte>> all;
  for (const Held& held : experts_)
    for (const MatrixView* matrix : {&held.view.gate, &held.view.up, &held.view.down}) {
      const auto weights = static_cast<std::size_t>(matrix->rows * matrix->cols);
      const bool is_nvfp4 = matrix->format == WeightFormat::kNvfp4;
      all.emplace_back(matrix->data, is_nvfp4 ? weights / 2 : 2 * weights);
      if (is_nvfp4) all.emplace_back(matrix->sf, weights / kNvfp4Block);
    }
  return all;
}

ExpertView HeldExperts::shared_expert(ExpertScratch& /*scratch*/) const { return shared_.view; }

ToolMeasurement measure_quantize(const Problem& problem, int threads, const TimerOptions& options) {
  // The time does not depend on the numbers, so all experts have those of one.
  Problem plain = problem;
  plain.weights = WeightFormat::kBf16;
  plain.activations = ActivationFormat::kBf16;
  plain.experts = plain.top_k = 1;
  plain.shared = {};
  plain.has_bias = false;
  ExpertScratch one;
  SyntheticSource(plain, 1).expert(0, one);
  const std::int64_t weights = problem.hidden * problem.inter;
  const auto expert_bytes = static_cast<std::size_t>(3 * 2 * weights);
  std::vector<std::byte> input(static_cast<std::size_t>(problem.experts) * expert_bytes);
  for (std::size_t at = 0; at < input.size(); at += expert_bytes)
    std::memcpy(&input[at], one.bytes.data(), expert_bytes);
  std::vector<std::uint8_t> codes(input.size() / 4), sf(input.size() / 2 / kNvfp4Block);
  std::vector<float> scales(static_cast<std::size_t>(3 * problem.experts));

  const auto view = [&](std::int64_t matrix) {
    const bool is_down = matrix % 3 == 2;
    return ConstTensorView{
        .data = input.data() + matrix * 2 * weights,
        .dtype = DType::kBF16,
        .shape = is_down ? Shape{problem.hidden, problem.inter} : Shape{problem.inter, problem.hidden}};
  };
  const auto output = [&](std::int64_t matrix) {
    const auto at = static_cast<std::size_t>(matrix), n = static_cast<std::size_t>(weights);
    return Nvfp4Output{.codes = std::span(codes).subspan(at * n / 2, n / 2),
                       .sf = std::span(sf).subspan(at * n / kNvfp4Block, n / kNvfp4Block),
                       .global_scales = std::span(scales).subspan(at, 1)};
  };
  const auto one_pass = [&] {
    return seconds_of([&] {
      on_threads(threads, 3 * problem.experts,
                 [&](std::int64_t matrix) { quantize_nvfp4(view(matrix), {}, output(matrix)); });
    });
  };
  one_pass();
  for (const std::int64_t matrix : {std::int64_t{0}, 3 * problem.experts - 1})
    require_bytes_of_rne(view(matrix), output(matrix));

  ToolMeasurement result;
  result.input_bytes = static_cast<double>(input.size());
  result.output_bytes = static_cast<double>(codes.size() + sf.size());
  ReadProbe probe(std::max(input.size(), std::size_t{64} << 20), threads);
  measure_rounds(
      options, one_pass, [&] { return result.input_bytes / probe.read_once(); }, result);
  return result;
}

ToolMeasurement measure_prepare(const Problem& problem, const ExpertSource& source, const PrepareOptions& options,
                                const TimerOptions& timer) {
  const HeldExperts held(problem, source);
  ToolMeasurement result;
  result.input_bytes = static_cast<double>(expert_bytes(problem) * problem.experts);
  std::shared_ptr<const PreparedWeights> weights;
  const auto one_pass = [&] {
    weights.reset();
    return seconds_of([&] { weights = prepare(problem, held, options); });
  };
  one_pass();
  result.output_bytes = static_cast<double>(weights->bytes());
  weights.reset();

  const std::vector<std::span<const std::byte>> pieces = pieces_of(held.memory());
  std::vector<std::size_t> begins;
  std::size_t bytes = 0;
  for (const std::span<const std::byte> piece : pieces) {
    begins.push_back(bytes);
    bytes += piece.size();
  }
  const auto copy = [&] {
    weights.reset();  // as the next pass will have it
    std::unique_ptr<NewPages> to;
    return seconds_of([&] {
      to = std::make_unique<NewPages>(bytes);
      on_threads(options.threads, static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
        const std::span<const std::byte> piece = pieces[static_cast<std::size_t>(i)];
        std::memcpy(to->bytes().data() + begins[static_cast<std::size_t>(i)], piece.data(), piece.size());
      });
    });
  };
  measure_rounds(timer, one_pass, copy, result);
  return result;
}

}  // namespace megamoe::bench
