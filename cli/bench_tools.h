// `megamoe bench --stage`: the work of quantize and prepare in memory, beside what memory gives.
#pragma once

#include <string>

#include "bench/layer_timer.h"
#include "layer_choice.h"

namespace megamoe::cli {

struct ToolBench {
  std::string stage;  // "prepare" or "quantize"
  ChosenLayer layer;
  std::string backend;
  int threads = 0;
  bench::TimerOptions timer;
  bool json = false;
};

void run_tool_bench(const ToolBench& choice);

}  // namespace megamoe::cli
