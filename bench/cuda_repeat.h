// Times short work on a CUDA stream when it has gone on for a while.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/cuda_handles.h"

namespace megamoe::bench {

// Seconds of each of `samples` calls of `submit`, all submitted back to back behind at least `warm_up_s` of the same.
template <class Submit>
std::vector<double> sustained_times(const CudaStream& stream, double warm_up_s, int samples, const Submit& submit) {
  constexpr int kMostWarmUps = 100'000;
  submit();  // loads the kernel
  CudaEvent start, end;
  start.record(stream.get());
  submit();
  end.record(stream.get());
  stream.wait();
  const double estimate = std::max(CudaEvent::seconds(start, end), 1e-6);
  const int warm_ups = std::min(static_cast<int>(std::ceil(warm_up_s / estimate)), kMostWarmUps);
  for (int i = 0; i < warm_ups; ++i) submit();

  std::vector<CudaEvent> marks(static_cast<std::size_t>(samples) + 1);
  marks[0].record(stream.get());
  for (std::size_t i = 1; i < marks.size(); ++i) {
    submit();
    marks[i].record(stream.get());
  }
  stream.wait();
  std::vector<double> seconds;
  for (std::size_t i = 1; i < marks.size(); ++i) seconds.push_back(CudaEvent::seconds(marks[i - 1], marks[i]));
  return seconds;
}

}  // namespace megamoe::bench
