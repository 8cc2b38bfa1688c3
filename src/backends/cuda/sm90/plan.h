// run of the Hopper backend: which stages there are, and what lies between them.
#pragma once

#include <memory>
#include <string>

#include "backends/cuda/sm90/choose.h"
#include "backends/cuda/sm90/prepare.h"
#include "moe/backend.h"

namespace megamoe::sm90 {

class Sm90Plan : public PlanImpl {
 public:
  Sm90Plan(std::shared_ptr<const Sm90Weights> weights, const PlanOptions& options, int multiprocessors);

  MemoryKind memory() const noexcept override { return MemoryKind::kCuda; }
  std::size_t workspace_bytes() const noexcept override { return workspace_bytes_; }
  std::string describe() const override;
  void run(const RunArgs& args) const override;

 private:
  struct Workspace;

  // What arrays need at most, over all numbers of tokens up to the plan's.
  struct Largest {
    std::int64_t partials = 0, arrivals = 0, tiles = 0, y_rows = 0, tiled = 0, gathered = 0, ready = 0, finished = 0;
  };
  Largest largest(bool is_shared) const;

  GemmSizes routed_sizes(std::int64_t tokens) const;
  GemmSizes shared_sizes(std::int64_t tokens) const;
  Choice routed_choice(std::int64_t tokens) const;
  Choice shared_choice(std::int64_t tokens) const;
  bool rounds(std::int64_t tokens, const Choice& routed) const;  // y of the routed rows to bf16
  void hand_out(const RunArgs& args, const Workspace& space) const;

  std::shared_ptr<const Sm90Weights> weights_;
  std::int64_t max_tokens_;
  int multiprocessors_;
  const Kernel* forced_;               // forced_kernel() when the plan was made
  Largest routed_most_, shared_most_;  // looked for once: run only carves
  std::size_t workspace_bytes_ = 0;
};

}  // namespace megamoe::sm90
