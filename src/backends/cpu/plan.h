// run of the cpu backend: which phases there are, and what lies between them.
#pragma once

#include <memory>

#include "backends/cpu/kernels.h"
#include "backends/cpu/pack.h"
#include "base/threads.h"
#include "moe/backend.h"

namespace megamoe::cpu {

class CpuPlan : public PlanImpl {
 public:
  CpuPlan(std::shared_ptr<const CpuWeights> weights, const PlanOptions& options);

  std::size_t workspace_bytes() const noexcept override { return workspace_bytes_; }
  std::string describe() const override;
  void run(const RunArgs& args) const override;

 private:
  struct Workspace;

  std::shared_ptr<const CpuWeights> weights_;
  Kernels kernels_;
  std::int64_t max_tokens_;
  Threads threads_;
  std::size_t workspace_bytes_;
};

}  // namespace megamoe::cpu
