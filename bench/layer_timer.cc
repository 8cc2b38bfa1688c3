#include "bench/layer_timer.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

namespace megamoe::bench {
namespace {

constexpr int kMaxRunsPerRound = 50;
constexpr double kLargestChange = 0.25;      // of a probe from one side of a round to the other
constexpr double kSecondsOfASwitch = 10e-3;  // a core may be taken away once in that time before a run is dropped
constexpr std::size_t kFewestRounds = 2;     // fewer are left: nothing is dropped

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// How often the system took a core away from this process.
long taken_away() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

// The time since the stage before, or since the start.
class StageClock final : public StageTimer {
 public:
  void start() { last_ = Clock::now(); }
  void stage(std::string_view name, void* /*stream*/) override {
    const Clock::time_point now = Clock::now();
    auto at = std::find_if(times_.begin(), times_.end(), [&](const auto& stage) { return stage.first == name; });
    if (at == times_.end()) at = times_.insert(times_.end(), {std::string(name), {}});
    at->second.push_back(std::chrono::duration<double>(now - last_).count());
    last_ = Clock::now();
  }
  std::vector<StageTime> medians() const {
    std::vector<StageTime> all;
    for (const auto& [name, seconds] : times_) all.push_back({name, median(seconds)});
    return all;
  }

 private:
  Clock::time_point last_;
  std::vector<std::pair<std::string, std::vector<double>>> times_;
};

struct Run {
  double seconds;
  bool disturbed;
};

class Runner {
 public:
  explicit Runner(const Plan& plan) : plan_(plan), workspace_(MemoryKind::kHost, plan.workspace_bytes()) {}

  Run run(const Tokens& batch) {
    output_.resize(batch.x.size());
    const long before = taken_away();
    const auto start = Clock::now();
    stages_.start();
    plan_.run({.tokens = batch.count,
               .x = batch.x,
               .topk_ids = batch.topk_ids,
               .topk_weights = batch.topk_weights,
               .output = output_,
               .output_f32 = {},
               .workspace = workspace_.as<std::byte>(),
               .stage_timer = &stages_});
    const double seconds = seconds_since(start);
    return {seconds, static_cast<double>(taken_away() - before) > seconds / kSecondsOfASwitch};
  }

  std::vector<StageTime> stages() const { return stages_.medians(); }

 private:
  const Plan& plan_;
  Buffer workspace_;
  std::vector<std::uint16_t> output_;
  StageClock stages_;
};

struct Reading {
  double read = 0;
  double int8 = 0;
  double bf16 = 0;
};

Reading read_probes(const HostProbes& probes) {
  Reading reading;
  if (probes.read != nullptr) reading.read = probes.read->read_once();
  if (probes.compute != nullptr) {
    reading.int8 = probes.compute->int8_once();
    reading.bf16 = probes.compute->bf16_once();
  }
  return reading;
}

struct Round {
  Reading before, after;
  std::vector<Run> runs;

  double mean(double Reading::*rate) const { return 0.5 * (before.*rate + after.*rate); }
  bool changed(double Reading::*rate) const { return is_disturbed(before.*rate, after.*rate); }
  bool disturbed() const { return changed(&Reading::read) || changed(&Reading::int8) || changed(&Reading::bf16); }

  std::vector<double> seconds() const {
    std::vector<double> all;
    for (const Run& run : runs)
      if (!run.disturbed) all.push_back(run.seconds);
    return all;
  }
};

// Keeps the undisturbed rounds that have undisturbed runs; all of them, and all runs, where too few would be left.
void drop_disturbed(std::vector<Round>& rounds) {
  std::vector<Round> quiet;
  for (const Round& round : rounds)
    if (!round.disturbed() && !round.seconds().empty()) quiet.push_back(round);
  if (are_enough(quiet.size(), rounds.size())) {
    rounds = std::move(quiet);
    return;
  }
  for (Round& round : rounds)
    for (Run& run : round.runs) run.disturbed = false;
}

// The rates of all rounds, and the shares round by round: a round is compared with its own readings.
void set_rates(const std::vector<Round>& rounds, bool integer, Measurement& result) {
  std::vector<double> read, int8, bf16, read_share, peak_share;
  for (const Round& round : rounds) {
    read.push_back(round.mean(&Reading::read));
    int8.push_back(round.mean(&Reading::int8));
    bf16.push_back(round.mean(&Reading::bf16));
    const double seconds = median(round.seconds());
    const double peak = integer ? int8.back() : bf16.back();
    if (read.back() > 0.0) read_share.push_back(result.weight_bytes / seconds / read.back());
    if (peak > 0.0) peak_share.push_back(result.flops / seconds / peak);
  }
  result.read_bytes_per_s = median(read);
  result.int8_ops_per_s = median(int8);
  result.bf16_flops_per_s = median(bf16);
  result.peak_flops_per_s = integer ? result.int8_ops_per_s : result.bf16_flops_per_s;
  if (!read_share.empty()) result.read_share = median(read_share);
  if (!peak_share.empty()) result.peak_share = median(peak_share);
}

}  // namespace

bool is_disturbed(double before, double after) {
  return std::abs(after - before) > kLargestChange * std::max(before, after);
}

bool are_enough(std::size_t quiet, std::size_t all) { return quiet >= std::min(kFewestRounds, all); }

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

double gemm_share(std::string_view stage) {
  if (stage.starts_with("gemm 1")) return 2.0 / 3.0;
  return stage.starts_with("gemm 2") ? 1.0 / 3.0 : 0.0;
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

void set_shares(Measurement& measurement) {
  if (measurement.read_bytes_per_s > 0.0)
    measurement.read_share = measurement.weight_bytes / measurement.median_s / measurement.read_bytes_per_s;
  if (measurement.peak_flops_per_s > 0.0)
    measurement.peak_share = measurement.flops / measurement.median_s / measurement.peak_flops_per_s;
}

Measurement measure_layer(const Plan& plan, std::span<const Tokens> batches, const HostProbes& probes,
                          const TimerOptions& options) {
  Measurement result = count_work(plan.problem(), batches);
  Runner warm_up(plan);
  warm_up.run(batches[0]);
  const double once = warm_up.run(batches[0]).seconds;
  const int runs_per_round =
      std::clamp(static_cast<int>(options.seconds / options.rounds / std::max(once, 1e-6)), 1, kMaxRunsPerRound);

  Runner runner(plan);
  runner.run(batches[0]);  // touches the workspace's pages
  std::vector<Round> rounds(static_cast<std::size_t>(options.rounds));
  Reading reading = read_probes(probes);
  std::size_t count = 0;
  for (Round& round : rounds) {
    round.before = reading;
    for (int i = 0; i < runs_per_round; ++i) round.runs.push_back(runner.run(batches[count++ % batches.size()]));
    round.after = reading = read_probes(probes);
  }
  drop_disturbed(rounds);
  std::vector<double> seconds;
  for (const Round& round : rounds) {
    const std::vector<double> own = round.seconds();
    seconds.insert(seconds.end(), own.begin(), own.end());
  }
  result.dropped = static_cast<int>(count - seconds.size());
  set_times(result, std::move(seconds));
  set_rates(rounds, plan.problem().activations != ActivationFormat::kBf16, result);
  result.stages = runner.stages();
  return result;
}

}  // namespace megamoe::bench
