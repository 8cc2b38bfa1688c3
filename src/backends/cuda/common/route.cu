// Routing: one warp a token, each lane with every 32nd expert. The best k come one after the other: the warp takes the
// best of its lanes' best, and the lane that gave it looks for its next. All scores are made in double, as on the host.
#include <algorithm>
#include <cmath>
#include <limits>

#include "backends/cuda/common/launch.cuh"
#include "backends/cuda/common/stages.h"
#include "megamoe/error.h"
#include "megamoe/formats/float_bits.h"
#include "routing/scores.h"

namespace megamoe::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kWarps = 4;                            // of a block
constexpr std::int64_t kSharedBytesMax = 160 << 10;  // of a block

struct RouteCall {
  RoutingRule rule;
  std::int64_t tokens;
  std::int64_t experts;
  std::int64_t top_k;
  const float* logits;
  const float* choice_bias;
  std::int32_t* topk_ids;
  float* topk_weights;
};

// A number's bits so that unsigned integers order them as the numbers are ordered, both zeros alike. None is kAbsent.
using Key = std::uint32_t;
constexpr Key kAbsent = 0;

__device__ Key key_of(float value) {
  const std::uint32_t bits = float_bits(value + 0.0f);
  return (bits & kFloatSignBit) != 0 ? ~bits : bits | kFloatSignBit;
}
__device__ float value_of(Key key) { return float_from_bits((key & kFloatSignBit) != 0 ? key & ~kFloatSignBit : ~key); }

struct Candidate {
  Key key;
  std::int32_t expert;

  __device__ bool before(Candidate other) const {
    return key > other.key || (key == other.key && expert < other.expert);
  }
};

__device__ double warp_sum(double value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(~0u, value, distance);
  return value;
}

__device__ float warp_max(float value) { return value_of(__reduce_max_sync(~0u, key_of(value))); }

// kCached: the experts' keys fit into shared memory; otherwise they are made anew each time they are looked at.
template <bool kCached>
class TokenRouter {
 public:
  __device__ TokenRouter(const RouteCall& call, std::int64_t token, std::uint32_t* memory)
      : call_(call),
        lane_(static_cast<std::int32_t>(threadIdx.x % kWarp)),
        experts_(static_cast<std::int32_t>(call.experts)),
        top_k_(static_cast<std::int32_t>(call.top_k)),
        groups_(static_cast<std::int32_t>(call.rule.groups)),
        group_size_(experts_ / groups_),
        logits_(call.logits + token * call.experts),
        ids_(call.topk_ids + token * call.top_k),
        weights_(call.topk_weights + token * call.top_k),
        chosen_(reinterpret_cast<std::int32_t*>(memory)),
        group_keys_(memory + call.top_k),
        group_kept_(group_keys_ + call.rule.groups),
        keys_(group_kept_ + call.rule.groups) {}

  // Words of shared memory that a warp needs.
  static std::int64_t words(const RouteCall& call) {
    return call.top_k + 2 * call.rule.groups + (kCached ? call.experts : 0);
  }

  __device__ void route() {
    if (poisoned()) {
      for (std::int32_t j = lane_; j < top_k_; j += kWarp) {
        ids_[j] = kPoisonedExpert;
        weights_[j] = float_from_bits(kFloatQuietNanBits);
      }
      return;
    }
    if (call_.rule.score == ScoreFunction::kSoftmax) sum_softmax(nullptr, experts_);
    if (drops_groups()) choose_groups();
    cache_keys(Compared::kCandidates);
    choose();
    write_weights();
  }

 private:
  __device__ bool poisoned() const {
    bool bad = false;
    for (std::int32_t e = lane_; e < experts_; e += kWarp)
      bad |= !(logits_[e] < std::numeric_limits<float>::infinity());
    return __any_sync(~0u, bad) != 0;
  }

  __device__ bool drops_groups() const { return call_.rule.groups_kept < groups_; }

  // The maximum and the sum of the softmax over all experts, or over those that `chosen` lists.
  __device__ void sum_softmax(const std::int32_t* chosen, std::int32_t count) {
    float max = -std::numeric_limits<float>::infinity();
    for (std::int32_t i = lane_; i < count; i += kWarp) max = fmaxf(max, logits_[chosen == nullptr ? i : chosen[i]]);
    softmax_max_ = warp_max(max);
    double sum = 0.0;
    for (std::int32_t i = lane_; i < count; i += kWarp) sum += exponential(logits_[chosen == nullptr ? i : chosen[i]]);
    softmax_sum_ = warp_sum(sum);
  }

  // 0 where all logits are -inf.
  __device__ double exponential(float logit) const {
    if (softmax_max_ == -std::numeric_limits<float>::infinity()) return 0.0;
    return std::exp(static_cast<double>(logit) - static_cast<double>(softmax_max_));
  }
  __device__ double softmax_score(float logit) const {
    return softmax_sum_ > 0.0 ? exponential(logit) / softmax_sum_ : 0.0;
  }
  __device__ double score(float logit) const {
    return call_.rule.score == ScoreFunction::kSoftmax ? softmax_score(logit) : expert_score(call_.rule.score, logit);
  }

  enum class Compared {
    kScores,      // unbiased
    kExperts,     // biased scores, or where there is no bias the logits, which order alike
    kCandidates,  // kExperts, without those of dropped groups
  };

  __device__ Key make_key(std::int32_t expert, Compared compared) const {
    if (compared == Compared::kCandidates && drops_groups() && group_kept_[expert / group_size_] == 0) return kAbsent;
    const float logit = logits_[expert];
    if (compared == Compared::kScores) return key_of(static_cast<float>(score(logit)));
    if (call_.choice_bias == nullptr) return key_of(logit);
    return key_of(static_cast<float>(score(logit)) + call_.choice_bias[expert]);
  }

  __device__ Key key(std::int32_t expert, Compared compared) const {
    if constexpr (kCached) return keys_[expert];
    return make_key(expert, compared);
  }

  __device__ void cache_keys(Compared compared) {
    if constexpr (kCached) {
      __syncwarp();  // the keys of before have been read
      for (std::int32_t e = lane_; e < experts_; e += kWarp) keys_[e] = make_key(e, compared);
      __syncwarp();
    }
  }

  __device__ void choose_groups() {
    const bool sums = call_.rule.group_score == GroupScore::kTop2Sum;
    // A sum of logits would mean nothing.
    const Compared compared = sums && call_.choice_bias == nullptr ? Compared::kScores : Compared::kExperts;
    cache_keys(compared);
    for (std::int32_t g = lane_; g < groups_; g += kWarp) {
      Key first = key_of(-std::numeric_limits<float>::infinity());
      Key second = first;
      for (std::int32_t e = g * group_size_; e < (g + 1) * group_size_; ++e) {
        const Key here = key(e, compared);
        second = max(second, min(first, here));
        first = max(first, here);
      }
      group_keys_[g] = sums ? key_of(value_of(first) + value_of(second)) : first;
    }
    __syncwarp();
    for (std::int32_t g = lane_; g < groups_; g += kWarp) {
      std::int32_t better = 0;
      for (std::int32_t other = 0; other < groups_; ++other)
        better += Candidate{group_keys_[other], other}.before({group_keys_[g], g});
      group_kept_[g] = better < call_.rule.groups_kept;
    }
    __syncwarp();
  }

  // The best of this lane's experts behind `last`.
  __device__ Candidate next_of_lane(Candidate last) const {
    Candidate best{kAbsent, std::numeric_limits<std::int32_t>::max()};
    for (std::int32_t e = lane_; e < experts_; e += kWarp) {
      const Candidate here{key(e, Compared::kCandidates), e};
      if (last.before(here) && here.before(best)) best = here;
    }
    return best;
  }

  __device__ void choose() {
    Candidate mine = next_of_lane({~Key{0}, -1});  // behind nothing
    for (std::int32_t j = 0; j < top_k_; ++j) {
      const Key key = __reduce_max_sync(~0u, mine.key);
      const std::int32_t expert =
          __reduce_min_sync(~0u, mine.key == key ? mine.expert : std::numeric_limits<std::int32_t>::max());
      if (lane_ == 0) {
        chosen_[j] = expert;
        ids_[j] = expert;
      }
      if (mine.expert == expert) mine = next_of_lane(mine);
    }
    __syncwarp();
  }

  // Always from the unbiased scores: (s + bias) - bias loses all digits of s where the bias is large.
  __device__ void write_weights() {
    const bool of_chosen = call_.rule.score == ScoreFunction::kTopkThenSoftmax;
    if (of_chosen) sum_softmax(chosen_, top_k_);
    double divisor = 1.0;
    if (!of_chosen && call_.rule.renormalize) {
      double sum = 0.0;
      for (std::int32_t j = lane_; j < top_k_; j += kWarp) sum += score(logits_[chosen_[j]]);
      divisor = warp_sum(sum) + static_cast<double>(call_.rule.renormalize_epsilon);
      if (divisor == 0.0) divisor = 1.0;  // all chosen scores are 0, and so are the weights
    }
    for (std::int32_t j = lane_; j < top_k_; j += kWarp) {
      const float logit = logits_[chosen_[j]];
      const double of_expert = of_chosen ? softmax_score(logit) : score(logit);
      weights_[j] = static_cast<float>(of_expert / divisor * static_cast<double>(call_.rule.scale));
    }
  }

  const RouteCall& call_;
  std::int32_t lane_;
  std::int32_t experts_;
  std::int32_t top_k_;
  std::int32_t groups_;
  std::int32_t group_size_;
  const float* logits_;
  std::int32_t* ids_;
  float* weights_;
  // Of the warp, in shared memory.
  std::int32_t* chosen_;       // [top_k]
  Key* group_keys_;            // [groups]
  std::uint32_t* group_kept_;  // [groups]
  Key* keys_;                  // [experts], or nothing
  float softmax_max_ = 0.0f;
  double softmax_sum_ = 0.0;
};

template <bool kCached>
__global__ void __launch_bounds__(kWarp* kWarps) megamoe_route(RouteCall call, std::int64_t words) {
  extern __shared__ std::uint32_t memory[];
  wait_for_previous();
  let_next_start();
  const std::int64_t warp = threadIdx.x / kWarp;
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / kWarp) + warp;
  if (token < call.tokens) TokenRouter<kCached>(call, token, memory + warp * words).route();
}

// False where not even one token's memory fits into a block.
template <bool kCached>
bool launch_route(const RouteCall& call, cudaStream_t stream) {
  const std::int64_t words = TokenRouter<kCached>::words(call);
  const auto warp_bytes = words * static_cast<std::int64_t>(sizeof(std::uint32_t));
  const std::int64_t warps = std::min<std::int64_t>(kWarps, kSharedBytesMax / warp_bytes);
  if (warps == 0) return false;
  const std::int64_t bytes = warps * warp_bytes;
  cuda_check(cudaFuncSetAttribute(megamoe_route<kCached>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(bytes)),
             "route: shared memory");
  launch(megamoe_route<kCached>, static_cast<unsigned>((call.tokens + warps - 1) / warps),
         static_cast<unsigned>(warps * kWarp), static_cast<std::size_t>(bytes), stream, call, words);
  return true;
}

}  // namespace

void route(const RoutingRule& rule, std::int64_t tokens, std::int64_t experts, std::int64_t top_k, const float* logits,
           const float* choice_bias, std::int32_t* topk_ids, float* topk_weights, cudaStream_t stream) {
  validate(rule, experts, top_k);
  if (tokens == 0) return;
  const RouteCall call{rule, tokens, experts, top_k, logits, choice_bias, topk_ids, topk_weights};
  if (!launch_route<true>(call, stream) && !launch_route<false>(call, stream))
    throw Error(Code::kUnsupported, "route: asked top_k ", top_k, " and ", rule.groups,
                " groups, accepted on a CUDA device: top_k + 2 * groups up to ",
                kSharedBytesMax / static_cast<std::int64_t>(sizeof(std::uint32_t)));
}

}  // namespace megamoe::cuda
