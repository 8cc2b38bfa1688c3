// Judges one run of a backend by the project's oracle: plain loops in double precision, bounds derived from the
// roundings that the numeric contract allows (tests/oracle, which shares nothing with the library).
#pragma once

#include <string>

#include "bench/synthetic.h"
#include "megamoe/moe.h"
#include "oracle/report.h"

namespace megamoe::bench {

struct OracleCheck {
  oracle::Report intermediate;     // what enters the second GEMM, against an interval computed in double
  oracle::Report output;           // the output, against the second GEMM of the backend's own intermediate
  bool bf16_output_agrees = true;  // the bf16 output is the f32 output, rounded once

  bool passed() const;
  std::string first_fault() const;  // in words; empty where it passed
};

// Asks `source` for the experts that `tokens` chose, once each.
OracleCheck check_with_oracle(const Plan& plan, const ExpertSource& source, const Tokens& tokens);

}  // namespace megamoe::bench
