// Figures that a test binary prints at its end: how close comparisons came to their bounds, and what was skipped.
#pragma once

#include <string_view>

#include "megamoe/moe.h"
#include "oracle/report.h"

namespace megamoe::test {

void note_comparison(std::string_view backend, const Problem& problem, bool bf16_output, const oracle::Report& codes,
                     const oracle::Report& sums);
void note_skip(std::string_view backend, const Problem& problem, std::string_view reason);

}  // namespace megamoe::test
