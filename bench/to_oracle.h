// The library's types as the oracle's, which knows none of them. Views stay views.
#pragma once

#include "megamoe/moe.h"
#include "oracle/layer.h"

namespace megamoe::bench {

oracle::Expert to_oracle(const ExpertView& expert);
oracle::Intermediate to_oracle(const Intermediate& intermediate);

// A problem's layer without its weights: no experts yet, no shared expert.
oracle::Layer to_oracle(const Problem& problem);

}  // namespace megamoe::bench
