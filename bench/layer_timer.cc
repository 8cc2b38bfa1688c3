#include "bench/layer_timer.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace megamoe::bench {
namespace {

constexpr int kMaxRunsPerRound = 50;

class Runner {
 public:
  explicit Runner(const Plan& plan) : plan_(plan), workspace_(plan.workspace_bytes()) {}

  double run(const Tokens& batch) {
    output_.resize(batch.x.size());
    const auto start = std::chrono::steady_clock::now();
    plan_.run({.tokens = batch.count,
               .x = batch.x,
               .topk_ids = batch.topk_ids,
               .topk_weights = batch.topk_weights,
               .output = output_,
               .output_f32 = {},
               .workspace = workspace_});
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  const Plan& plan_;
  std::vector<std::byte> workspace_;
  std::vector<std::uint16_t> output_;
};

}  // namespace

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

double Measurement::floor_s() const {
  if (read_bytes_per_s == 0.0) return 0.0;
  const double reading = weight_bytes / read_bytes_per_s;
  return peak_flops_per_s == 0.0 ? reading : std::max(reading, flops / peak_flops_per_s);
}

Measurement count_work(const Problem& problem, std::span<const Tokens> batches) {
  Measurement result{.tokens = batches[0].count};
  const auto count = static_cast<double>(batches.size());
  for (const Tokens& batch : batches) {
    result.active_experts += static_cast<double>(active_experts(problem, batch.topk_ids)) / count;
    result.weight_bytes += read_bytes(problem, batch.topk_ids, batch.count) / count;
    result.flops += layer_flops(problem, batch.topk_ids, batch.count) / count;
  }
  result.token_bytes = token_bytes(problem, batches[0].count);
  return result;
}

void set_times(Measurement& measurement, std::vector<double> seconds) {
  measurement.repeats = static_cast<int>(seconds.size());
  measurement.min_s = *std::min_element(seconds.begin(), seconds.end());
  measurement.median_s = median(seconds);
  measurement.p10_s = quantile(seconds, 0.1);
  measurement.p90_s = quantile(std::move(seconds), 0.9);
}

Measurement measure_layer(const Plan& plan, std::span<const Tokens> batches, ReadProbe* probe,
                          const TimerOptions& options) {
  Measurement result = count_work(plan.problem(), batches);
  Runner runner(plan);
  const double first = runner.run(batches[0]);  // also touches the workspace's pages
  const int runs_per_round =
      std::clamp(static_cast<int>(options.seconds / options.rounds / std::max(first, 1e-6)), 1, kMaxRunsPerRound);
  std::vector<double> seconds;
  std::vector<double> readings;
  for (int round = 0; round < options.rounds; ++round) {
    if (probe != nullptr) readings.push_back(probe->read_once());
    for (int i = 0; i < runs_per_round; ++i) seconds.push_back(runner.run(batches[seconds.size() % batches.size()]));
  }
  set_times(result, std::move(seconds));
  if (probe != nullptr) result.read_bytes_per_s = median(readings);
  return result;
}

}  // namespace megamoe::bench
