// Routing: from a token's router logits to its experts and their weights, and from those to rows ordered by expert.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace megamoe {

// Entries of topk_ids below zero.
inline constexpr std::int32_t kDroppedExpert = -1;   // this choice contributes nothing
inline constexpr std::int32_t kPoisonedExpert = -2;  // the token's logits held NaN: its whole output row is NaN

enum class ScoreFunction : std::uint8_t {
  kSoftmax,          // softmax over all experts, then top-k (Qwen, Mixtral, DeepSeek-V2)
  kSigmoid,          // logistic (DeepSeek-V3, GLM-4.5, Kimi-K2, MiniMax)
  kSqrtSoftplus,     // sqrt(log(1 + e^l)) (DeepSeek-V4)
  kTopkThenSoftmax,  // top-k of the logits, softmax over the chosen ones (gpt-oss)
};

// How the experts of one group make the group's score.
enum class GroupScore : std::uint8_t {
  kMax,      // the best expert (DeepSeek-V2)
  kTop2Sum,  // the sum of the two best (DeepSeek-V3)
};

// What a family's router computes. Every choice is by the biased score s + bias; every weight is made of the unbiased
// score s. Ties go to the lower expert (and the lower group).
//
// The arithmetic, so that every device makes the same choice:
//   scores   s in double (the softmax's sum too), rounded once to f32 before it is compared; s + bias is one f32
//            addition, and so is the sum of a group's two best.
//   choice   without a bias the logits are compared instead: every score rises strictly with its logit, so this is the
//            choice by exact scores, and no exponential decides it. Only a group's sum of two still takes scores.
//   groups   experts of dropped groups are no candidates at all (as a mask of -inf), however negative a kept key is.
//   weights  s / (sum of the k chosen s + epsilon) * scale in double from the unrounded s, rounded once to f32. Where
//            that divisor is 0, all k weights are 0.
// A logit of -inf is legal (a masked expert: behind every finite one, score 0); NaN and +inf poison their token.
struct RoutingRule {
  ScoreFunction score = ScoreFunction::kSoftmax;
  bool renormalize = true;           // divide the k weights by their sum + epsilon; kTopkThenSoftmax sums to 1 as it is
  float renormalize_epsilon = 0.0f;  // DeepSeek-V3: 1e-20
  float scale = 1.0f;                // routed_scaling_factor, multiplied into the weights last
  std::int64_t groups = 1;           // experts are cut into this many contiguous groups
  std::int64_t groups_kept = 1;      // experts of the other groups can not be chosen
  GroupScore group_score = GroupScore::kTop2Sum;
  bool round_logits_to_bf16 = false;  // the family computes its router in the activations' type

  std::string to_string() const;  // "softmax renorm", "sigmoid groups 4/8 top2 renorm+1e-20 x2.5", ...
  friend bool operator==(const RoutingRule&, const RoutingRule&) = default;
};

// Throws kInvalidArgument where the rule and the sizes do not fit: top_k outside [1, experts], experts not divisible
// into groups, groups_kept outside [1, groups], fewer experts in the kept groups than top_k, groups of one expert where
// the two best are summed, a scale that is not finite, an epsilon that is not finite or below 0.
void validate(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k);

// logits[t, e] = x[t, :] . weight[e, :] (+ bias[e]), products and sums in double, rounded once to f32 (and then to bf16
// where the rule says so): no choice depends on the order of a sum. Throws kInvalidArgument where the sizes do not fit.
//   x       [tokens, hidden]   bf16 bits
//   weight  [experts, hidden]  f32
//   bias    [experts] f32, or empty
//   logits  [tokens, experts]  f32, out
void router_logits(const RoutingRule& rule, std::span<const std::uint16_t> x, std::span<const float> weight,
                   std::span<const float> bias, std::int64_t hidden, std::span<float> logits);

// Chooses each token's experts.
//   logits        [tokens, experts]  f32
//   choice_bias   [experts] f32 (e_score_correction_bias), or empty
//   topk_ids      [tokens, top_k]    i32, out: by falling biased score; kPoisonedExpert in all k of a poisoned token
//   topk_weights  [tokens, top_k]    f32, out: NaN for a poisoned token
// A token is poisoned by one NaN or +inf among its logits. Returns the number of poisoned tokens. Throws
// kInvalidArgument where validate does, for sizes that do not fit, and for a choice_bias of NaN or +inf.
std::int64_t route(const RoutingRule& rule, std::int64_t experts, std::int64_t top_k, std::span<const float> logits,
                   std::span<const float> choice_bias, std::span<std::int32_t> topk_ids, std::span<float> topk_weights);

// Orders routed rows by expert; rows of one expert keep token order, so results do not depend on thread timing.
//   topk_ids   [tokens, top_k]  i32   expert of each choice; below zero = no row
//   row_begin  [experts + 1]    i64   out: first row of each expert; row_begin[experts] = rows in all
//   row_of     [tokens, top_k]  i64   out: the row of each choice, -1 where there is none
//   choice_of  [tokens * top_k] i64   out: flat choice index t * top_k + j of each row; entries past the last row are
//   untouched
// Throws kInvalidArgument, before anything is written, for an id outside [-2, experts) and for sizes that do not fit.
// Allocates nothing.
void order_rows(std::span<const std::int32_t> topk_ids, std::int64_t experts, std::span<std::int64_t> row_begin,
                std::span<std::int64_t> row_of, std::span<std::int64_t> choice_of);

}  // namespace megamoe
