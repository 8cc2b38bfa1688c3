// The two-stage comparison of one case: the oracle's expectation computed once, then any number of runs judged by it.
#pragma once

#include <string>
#include <string_view>

#include "oracle/gemm1.h"
#include "oracle/layer.h"
#include "support/run_case.h"
#include "support/test_case.h"

namespace megamoe::test {

oracle::Layer to_oracle(const Problem& problem, const MemorySource& weights);
oracle::Batch to_oracle(const Case& c);

// What makes a passing comparison worth something.
enum class Trust {
  kFull,      // the bound lies far below the output, the output is not mostly zero, few codes are ambiguous
  kJustBound  // inputs that are mostly zeros on purpose
};

class TwoStages {
 public:
  explicit TwoStages(const Case& c);  // c outlives this

  // Fails the current test, with the first element outside, its bound and a line that runs it again. `run` must hold
  // the intermediate. `backend` names the run in messages and in the summary.
  void check(const Result& run, std::string_view backend, Trust trust = Trust::kFull) const;

 private:
  const Case& case_;
  oracle::Layer layer_;
  oracle::Expected expected_;
};

// Runs a case with output in BF16 and in FP32 and checks both.
void check_case(const Case& c, std::string_view backend, Trust trust = Trust::kFull);

}  // namespace megamoe::test
