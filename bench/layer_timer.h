// Times one layer beside what the machine can do at that moment.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bench/compute_probe.h"
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
  int dropped = 0;  // runs that were disturbed, and are in no figure
  double median_s = 0;
  double min_s = 0;
  double p10_s = 0;
  double p90_s = 0;
  double read_bytes_per_s = 0;    // what the memory can do; 0: not measured
  double int8_ops_per_s = 0;      // what the vector units can do; 0: not measured
  double bf16_flops_per_s = 0;    // the same for bf16 products
  double peak_flops_per_s = 0;    // of the format of the activations, or of a device's matrix units; 0: not measured
  double read_share = 0;          // weight_bytes a second over plain read; of each round, then the median
  double peak_share = 0;          // flops a second over the peak, likewise
  std::vector<StageTime> stages;  // empty where the plan tells of none

  // The time below which no layer of this work gets: every weight read once, or every product computed, whichever takes
  // longer; 0 without a measured memory rate.
  double floor_s() const;
};

struct TimerOptions {
  double seconds = 1.0;  // of runs at most, beyond `rounds` of them
  int rounds = 7;        // each is a reading of the probes, runs, and the next reading
};

struct HostProbes {
  ReadProbe* read = nullptr;              // nullptr: not measured
  const ComputeProbe* compute = nullptr;  // likewise
};

// What the batches ask for; no times yet.
Measurement count_work(const Problem& problem, std::span<const Tokens> batches);

// The statistics of at least one time.
void set_times(Measurement& measurement, std::vector<double> seconds);

// The median's shares of the rates that are known.
void set_shares(Measurement& measurement);

// Runs the batches in turn, so that no batch finds its own weights and tokens in a cache merely because it ran last.
// Clouds slow a machine down for seconds at a time: the probes are read between the runs, not before them, and a round
// is judged by the readings on both sides of it. Dropped are rounds during which a reading changed by a quarter, and
// runs during which other work took a core away from this process.
Measurement measure_layer(const Plan& plan, std::span<const Tokens> batches, const HostProbes& probes,
                          const TimerOptions& options);

// The part of a layer's weights and products that a stage of the host's plans has: one third of both is the second
// GEMM's. 0 for what is not a GEMM.
double gemm_share(std::string_view stage);

// Whether a probe's reading changed so much from one side of a round to the other that the round is dropped; and
// whether so many of `all` rounds are left that the others may be.
bool is_disturbed(double before, double after);
bool are_enough(std::size_t quiet, std::size_t all);

double median(std::vector<double> values);  // of at least one value
// The value below which `share` of the values lie, between neighbours by their distance; of at least one value.
double quantile(std::vector<double> values, double share);

}  // namespace megamoe::bench
