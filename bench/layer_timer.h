// Times one layer beside what the machine's memory can do at that moment.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bench/read_probe.h"
#include "bench/synthetic.h"
#include "megamoe/moe.h"

namespace megamoe::bench {

struct StageTime {
  std::string name;
  double median_s = 0;
};

struct Measurement {
  std::int64_t tokens = 0;
  double active_experts = 0;  // mean over the batches
  double weight_bytes = 0;    // of the active experts and the shared one, mean over the batches
  double token_bytes = 0;     // of x, the choices and the output
  double flops = 0;           // mean over the batches
  int repeats = 0;
  double median_s = 0;
  double min_s = 0;
  double p10_s = 0;
  double p90_s = 0;
  double read_bytes_per_s = 0;    // what the memory can do; 0: not measured
  double peak_flops_per_s = 0;    // what the matrix units can do; 0: not measured
  std::vector<StageTime> stages;  // empty where the plan tells of none

  // The time below which no layer of this work gets: every weight read once, or every product computed, whichever takes
  // longer; 0 without a measured memory rate.
  double floor_s() const;
};

struct TimerOptions {
  double seconds = 1.0;  // of runs at most, beyond `rounds` of them
  int rounds = 5;        // probe readings; each is followed by runs
};

// What the batches ask for; no times yet.
Measurement count_work(const Problem& problem, std::span<const Tokens> batches);

// The statistics of at least one time.
void set_times(Measurement& measurement, std::vector<double> seconds);

// Runs the batches in turn, so that no batch finds its own weights and tokens in a cache merely because it ran last.
// Clouds slow a machine down for seconds at a time: the probe is read between the runs, not before them.
Measurement measure_layer(const Plan& plan, std::span<const Tokens> batches, ReadProbe* probe,
                          const TimerOptions& options);

double median(std::vector<double> values);  // of at least one value
// The value below which `share` of the values lie, between neighbours by their distance; of at least one value.
double quantile(std::vector<double> values, double share);

}  // namespace megamoe::bench
