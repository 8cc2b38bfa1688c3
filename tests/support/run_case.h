// Runs a case on a backend inside hostile memory: the workspace and the output begin at odd places, are filled with
// poison, and lie between canaries. Where the backend computes on a device, that is the device's memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"
#include "support/hostile_block.h"
#include "support/test_case.h"

namespace megamoe::test {

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
  Layer(std::shared_ptr<const PreparedWeights> weights, std::int64_t max_tokens, int threads = 0);

  Result run(const Case& c, const RunOptions& options = {}) const;  // fails the test if a canary died
  const Plan& plan() const { return *plan_; }
  bool on_device() const { return plan_->memory() != MemoryKind::kHost; }

 private:
  std::unique_ptr<Plan> plan_;
};

Result run_case(const Case& c, std::string_view backend, const RunOptions& options = {}, int threads = 0);

}  // namespace megamoe::test
