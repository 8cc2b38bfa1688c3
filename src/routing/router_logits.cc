// The router's matrix product in double. Every product of a bf16 and an f32 is exact there.
#include <algorithm>
#include <vector>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/routing.h"
#include "routing/check.h"

namespace megamoe {
namespace {

// Independent sums, so that a compiler may keep them in vector registers without reordering any addition.
constexpr std::size_t kLanes = 8;
// Tokens that share one reading of the weights; their x stays in a second-level cache.
constexpr std::size_t kTokenBlock = 16;

double dot(std::span<const float> a, std::span<const float> b) {
  double lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= a.size(); i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<double>(a[i + lane]) * static_cast<double>(b[i + lane]);
    }
  }
  double sum = 0;
  for (; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

void router_logits(const RoutingRule& rule, std::span<const std::uint16_t> x, std::span<const float> weight,
                   std::span<const float> bias, std::int64_t hidden, std::span<float> logits) {
  if (hidden < 1) throw Error(Code::kInvalidArgument, "hidden: asked ", hidden, ", accepted: at least 1");
  const auto width = static_cast<std::size_t>(hidden);
  const std::size_t tokens = x.size() / width;
  const std::size_t experts = weight.size() / width;
  check_elements("x", x.size(), tokens * width);
  check_elements("weight", weight.size(), experts * width);
  check_elements("logits", logits.size(), tokens * experts);
  if (!bias.empty()) check_elements("bias", bias.size(), experts);

  std::vector<float> block(std::min(kTokenBlock, tokens) * width);
  for (std::size_t t0 = 0; t0 < tokens; t0 += kTokenBlock) {
    const std::size_t count = std::min(kTokenBlock, tokens - t0);
    std::transform(x.begin() + static_cast<std::ptrdiff_t>(t0 * width),
                   x.begin() + static_cast<std::ptrdiff_t>((t0 + count) * width), block.begin(), bf16_to_float);
    for (std::size_t e = 0; e < experts; ++e) {
      for (std::size_t t = 0; t < count; ++t) {
        double sum = dot(std::span<const float>(block).subspan(t * width, width), weight.subspan(e * width, width));
        if (!bias.empty()) sum += static_cast<double>(bias[e]);
        const auto logit = static_cast<float>(sum);
        logits[(t0 + t) * experts + e] = rule.round_logits_to_bf16 ? bf16_to_float(bf16_from_float(logit)) : logit;
      }
    }
  }
}

}  // namespace megamoe
