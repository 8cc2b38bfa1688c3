// Times a plan that computes on a CUDA device. In builds without CUDA, where no plan does, this throws kUnsupported.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "bench/layer_timer.h"

namespace megamoe::bench {

// What one captured CUDA graph holds.
enum class GraphOf : std::uint8_t {
  kCall,   // one call: a launch of a graph stands before each
  kChain,  // all batches one after the other, as an engine captures its layers
};

struct DeviceTimerOptions {
  double seconds = 1.0;          // of timed replays, about
  double warm_up_seconds = 0.3;  // of replays before them, without a pause in between
  GraphOf graph = GraphOf::kCall;
};

struct DeviceMeasurement {
  Measurement times;
  std::vector<std::uint16_t> last_output;  // [tokens, hidden] bf16: what the replay of the last batch leaves
};

// Replays the batches in turn, back to back, from inputs and to an output in device memory. A sample is the mean of as
// many calls as give the events between them something to measure: whole rounds of the batches, or one call where it
// takes long. Stages are timed apart, in runs without a graph and with an event between any two: without their overlap.
DeviceMeasurement measure_layer_on_device(const Plan& plan, std::span<const Tokens> batches,
                                          const DeviceTimerOptions& options);

}  // namespace megamoe::bench
