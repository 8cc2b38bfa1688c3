// A layer that no checkpoint holds: random weights and tokens of any problem's sizes, the same for the same seed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "megamoe/moe.h"

namespace megamoe::bench {

// Weights with all 16 codes and many scales, sized so that outputs are of order 1. Gate and up differ in their global
// scales, and experts differ from each other.
class SyntheticSource final : public ExpertSource {
 public:
  SyntheticSource(const Problem& problem, std::uint64_t seed);

  ExpertView expert(std::int64_t index, ExpertScratch& scratch) const override;
  ExpertView shared_expert(ExpertScratch& scratch) const override;
  std::span<const float> shared_gate() const override { return shared_gate_; }

 private:
  Problem problem_;
  std::uint64_t seed_;
  std::vector<float> shared_gate_;  // [hidden], where the shared expert is gated
};

enum class RouteKind : std::uint8_t {
  kUniform,  // every expert is as likely as any other
  kSkew,     // every token chooses the first top_k experts
  kDropped,  // as uniform, and about half of the choices are dropped
  kZipf,     // some experts are far more popular than others
};

struct Route {
  Route() = default;
  Route(RouteKind of) : kind(of) {}  // NOLINT: a kind is a route
  RouteKind kind = RouteKind::kUniform;
  // kZipf: the first choice of a token is the expert of rank r = 0, 1, ... with a probability in proportion to
  // (r + 1)^-exponent, each later one the same among the experts that it has not chosen yet. Ranks are a permutation of
  // the experts that depends on their number alone, so that the same experts are popular in every batch.
  double exponent = 1.0;

  std::string to_string() const;  // parse_route reads it back
};

Route parse_route(std::string_view text);  // "uniform", "skew", "dropped", "zipf:1.0"; throws kInvalidArgument

// What run takes besides weights.
struct Tokens {
  std::int64_t count = 0;
  std::vector<std::uint16_t> x;        // [count, hidden] bf16 bits, deviation 1
  std::vector<std::int32_t> topk_ids;  // [count, top_k], distinct in a token
  std::vector<float> topk_weights;     // [count, top_k], sum 1 in a token
};

Tokens random_tokens(const Problem& problem, std::int64_t count, const Route& route, std::uint64_t seed);

// Gives the experts of each batch other names, so that it uses those that were not used for longest: weights that were
// read a moment ago, and may still lie in a cache, are not asked for again as long as there are others. How many tokens
// go to how many experts stays as it was: random experts differ in their names only. Not for routes with popular
// experts.
void rotate_experts(const Problem& problem, std::span<Tokens> batches);

// How many batches go once round the experts, as far as whole batches do; from 4 to 64.
int batches_of_a_round(const Problem& problem, std::int64_t tokens);

// How many experts at least one token chose.
std::int64_t active_experts(const Problem& problem, std::span<const std::int32_t> topk_ids);

// What one expert's weights take in canonical form: codes and block scales, or bf16.
std::int64_t expert_bytes(const Problem& problem);

// Weights that a run has to read once: those of the active experts and, where there are tokens, of the shared expert.
double read_bytes(const Problem& problem, std::span<const std::int32_t> topk_ids, std::int64_t tokens);

// What a run reads and writes besides weights: x, ids and weights of the choices, and the bf16 output.
double token_bytes(const Problem& problem, std::int64_t tokens);

// Multiplications and additions of the routed and the shared GEMMs: 2 * 3 * hidden * inter a row.
double layer_flops(const Problem& problem, std::span<const std::int32_t> topk_ids, std::int64_t tokens);

}  // namespace megamoe::bench
