// Calls a plan with arrays in host memory, wherever it computes.
#pragma once

#include "megamoe/buffer.h"
#include "megamoe/moe.h"

namespace megamoe {

// Owns the workspace and, for a plan on a device, the device's copies of the arrays. For tests, tools and models whose
// other layers run on the CPU: an engine on the device calls Plan::run with its own device memory.
class HostCall {
 public:
  explicit HostCall(const Plan& plan);  // the plan outlives this, where it is

  // `args` as for Plan::run, with every array in host memory and no workspace. Returns when the output is there.
  void run(RunArgs args);

 private:
  void run_on_device(const RunArgs& host);

  const Plan* plan_;
  Buffer workspace_;
  Buffer x_, topk_ids_, topk_weights_, output_;  // empty for a plan on the host
};

}  // namespace megamoe
