// A case's inputs in the memory where a plan computes.
#pragma once

#include "megamoe/buffer.h"
#include "megamoe/moe.h"
#include "support/test_case.h"

namespace megamoe::test {

class PlacedInputs {
 public:
  // On the host they are the case's own arrays: `c` outlives this.
  PlacedInputs(const Case& c, MemoryKind kind);

  // tokens, x, topk_ids and topk_weights of a call; the rest is left to the caller.
  RunArgs args() const { return args_; }

 private:
  RunArgs args_;
  Buffer x_, topk_ids_, topk_weights_;  // empty on the host
};

}  // namespace megamoe::test
