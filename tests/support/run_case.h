// Runs a case on a backend inside hostile memory: the workspace and the output begin at odd places, are filled with
// poison, and lie between canaries.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"
#include "support/test_case.h"

namespace megamoe::test {

enum class Poison : std::uint32_t {
  k7F = 0x7F7F7F7Fu,   // NaN as E4M3, 3.4e38 as fp32, and large positive integers
  kFF = 0xFFFFFFFFu,   // NaN as E4M3, BF16 and FP32, and -1
  kNan = 0x7FC07FC0u,  // quiet NaN as BF16 and as FP32
};

struct Result {
  std::vector<std::uint16_t> bf16;  // [tokens, hidden]; the one asked for is filled
  std::vector<float> f32;
  Intermediate intermediate;

  std::vector<double> as_doubles() const;
};

struct RunOptions {
  Poison poison = Poison::k7F;
  bool f32 = false;           // output_f32 instead of output
  bool intermediate = false;  // also hand it out
};

// Prepared once, run many times.
class Layer {
 public:
  Layer(const Case& c, std::string_view backend, std::int64_t max_tokens, int threads = 0);

  Result run(const Case& c, const RunOptions& options = {}) const;  // fails the test if a canary died
  const Plan& plan() const { return *plan_; }

 private:
  std::unique_ptr<Plan> plan_;
};

Result run_case(const Case& c, std::string_view backend, const RunOptions& options = {}, int threads = 0);

}  // namespace megamoe::test
