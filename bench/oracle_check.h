// Judges one run of a backend by the project's oracle: plain loops in double precision, bounds derived from the
// roundings that the numeric contract allows (tests/oracle, which shares nothing with the library).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

// Judges every token. Asks `source` for the experts that they chose, once each.
OracleCheck check_with_oracle(const Plan& plan, const ExpertSource& source, const Tokens& tokens);

struct SampleCheck {
  OracleCheck check;                  // of the tokens that were judged, together; no medians
  std::int64_t judged = 0;            // how many tokens
  std::vector<std::uint16_t> output;  // [tokens, hidden] bf16: of all tokens
};

// Runs all of `tokens`, since a plan chooses its kernels by their number, and judges `sample` of them, spread evenly,
// each on a thread. The bf16 output is compared with the f32 one for every token.
SampleCheck check_sample_with_oracle(const Plan& plan, const ExpertSource& source, const Tokens& tokens,
                                     std::int64_t sample);

}  // namespace megamoe::bench
