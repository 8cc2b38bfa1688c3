// Times one layer beside what the machine's memory can do at that moment.
#pragma once

#include <cstdint>
#include <span>

#include "bench/read_probe.h"
#include "bench/synthetic.h"
#include "megamoe/moe.h"

namespace megamoe::bench {

struct Measurement {
  std::int64_t tokens = 0;
  double active_experts = 0;  // mean over the batches
  double weight_bytes = 0;    // of the active experts and the shared one, mean over the batches
  double flops = 0;           // mean over the batches
  int repeats = 0;
  double median_s = 0;
  double min_s = 0;
  double read_bytes_per_s = 0;  // the probe's median, taken between the repeats; 0 without a probe
};

struct TimerOptions {
  double seconds = 1.0;  // of runs at most, beyond `rounds` of them
  int rounds = 5;        // probe readings; each is followed by runs
};

// Runs the batches in turn, so that no batch finds its own weights and tokens in a cache merely because it ran last.
// Clouds slow a machine down for seconds at a time: the probe is read between the runs, not before them.
Measurement measure_layer(const Plan& plan, std::span<const Tokens> batches, ReadProbe* probe,
                          const TimerOptions& options);

double median(std::vector<double> values);  // of at least one value

}  // namespace megamoe::bench
