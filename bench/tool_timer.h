// Times what `megamoe quantize` and `megamoe prepare` do in memory, without files, beside what memory gives for the
// same bytes at that moment.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bench/layer_timer.h"
#include "megamoe/moe.h"

namespace megamoe::bench {

// A source's experts, made once and held, so that asking for one costs nothing.
class HeldExperts final : public ExpertSource {
 public:
  HeldExperts(const Problem& problem, const ExpertSource& source);

  ExpertView expert(std::int64_t index, ExpertScratch& scratch) const override;
  ExpertView shared_expert(ExpertScratch& scratch) const override;
  std::span<const float> shared_gate() const override { return source_.shared_gate(); }
  std::vector<std::span<const std::byte>> memory() const;  // of the routed experts' weights, as they lie

 private:
  struct Held {
    ExpertScratch memory;
    ExpertView view;
  };
  const ExpertSource& source_;
  std::vector<Held> experts_;
  Held shared_;
};

struct ToolMeasurement {
  double input_bytes = 0;
  double output_bytes = 0;
  int repeats = 0;
  int dropped = 0;  // rounds that were disturbed, and are in no figure
  double median_s = 0;
  double min_s = 0;
  double floor_s = 0;     // quantize: reading the input once; prepare: copying the input once; median
  double over_floor = 0;  // time over that of the floor on both sides of it, median of the rounds

  double input_bytes_per_s() const { return input_bytes / median_s; }
};

// BF16 weights of the problem's routed experts to NVFP4 by recipe rne, matrix by matrix (quantize_nvfp4, a global scale
// each), into memory that is there. The floor is a plain read of as many bytes. Throws kInternal where a byte is not
// that of quantize_nvfp4_row.
ToolMeasurement measure_quantize(const Problem& problem, int threads, const TimerOptions& options);

// The experts of `source` into a backend's packed form, in memory that is new. The floor is a copy of these experts as
// they lie, on as many threads and into memory that is just as new.
ToolMeasurement measure_prepare(const Problem& problem, const ExpertSource& source, const PrepareOptions& options,
                                const TimerOptions& timer);

}  // namespace megamoe::bench
