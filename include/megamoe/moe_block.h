// A model's whole MoE block, as the model calls it: router, routed experts, shared experts.
//
//   const MoeLayer layer = Checkpoint::open("model-nvfp4").layer(0);
//   MoeBlock block(layer, {.max_tokens = 64});
//   block.forward(x, output);                  // [tokens, hidden] bf16 bits, both
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "megamoe/checkpoint.h"
#include "megamoe/host_call.h"
#include "megamoe/moe.h"
#include "megamoe/routing.h"

namespace megamoe {

struct MoeBlockOptions {
  std::string backend = "auto";  // as PrepareOptions
  int threads = 0;               // 0 = all of the machine
  std::int64_t max_tokens = 256;
  std::string isa;  // as PlanOptions
  // The layer's weights where they are prepared already (megamoe/prepared_cache.h); they say which backend computes.
  std::shared_ptr<const PreparedWeights> weights;
};

// Where a batch's tokens go.
struct RoutedTokens {
  std::vector<std::int32_t> topk_ids;  // [tokens, top_k]
  std::vector<float> topk_weights;     // [tokens, top_k]
  std::int64_t poisoned = 0;           // tokens whose logits held NaN or +inf: their output is NaN
};

// Its arrays are in host memory, wherever the backend computes. One at a time may call run or forward: the block has
// one workspace.
class MoeBlock {
 public:
  // Copies the layer's router and prepares its experts' weights.
  MoeBlock(const MoeLayer& layer, const MoeBlockOptions& options);

  const Plan& plan() const noexcept { return *plan_; }
  std::size_t weight_bytes() const noexcept { return weights_->bytes(); }  // as prepared

  // x [tokens, hidden] bf16 bits, of any number of tokens.
  RoutedTokens route(std::span<const std::uint16_t> x) const;

  // The experts alone, for at most max_tokens tokens. output [tokens, hidden], bf16 bits or f32. Allocates nothing.
  void run(std::span<const std::uint16_t> x, const RoutedTokens& routed, std::span<std::uint16_t> output);
  void run(std::span<const std::uint16_t> x, const RoutedTokens& routed, std::span<float> output);

  // route and run.
  void forward(std::span<const std::uint16_t> x, std::span<std::uint16_t> output) { run(x, route(x), output); }

 private:
  RunArgs args(std::span<const std::uint16_t> x, const RoutedTokens& routed) const;

  RoutingRule routing_;
  std::vector<float> router_weight_;
  std::vector<float> router_bias_;
  std::vector<float> choice_bias_;
  std::shared_ptr<const PreparedWeights> weights_;
  std::unique_ptr<const Plan> plan_;  // stays where it is when the block is moved: call_ refers to it
  HostCall call_;
};

}  // namespace megamoe
