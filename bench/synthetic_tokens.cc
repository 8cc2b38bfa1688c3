// Random tokens and their choices.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <sstream>
#include <utility>

#include "bench/random_bits.h"
#include "bench/synthetic.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"

namespace megamoe::bench {
namespace {

constexpr std::uint64_t kTokenStride = 0x8CB92BA72F3D8DD7u;  // odd: keeps the seeds of tokens apart
constexpr std::uint64_t kOrderSeed = 5;
constexpr std::string_view kZipf = "zipf:";

std::vector<std::int32_t> all_experts(std::int64_t experts) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(experts));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// The first `count` places of a Fisher-Yates shuffle: distinct and uniform.
void shuffle_front(std::vector<std::int32_t>& order, std::size_t count, RandomBits& random) {
  for (std::size_t j = 0; j < count; ++j)
    std::swap(order[j], order[j + static_cast<std::size_t>(random.below(static_cast<std::int64_t>(order.size() - j)))]);
}

// All of them in an order that is always the same, and that of no memory.
std::vector<std::int32_t> mixed_experts(std::int64_t experts) {
  std::vector<std::int32_t> order = all_experts(experts);
  RandomBits random(kOrderSeed);
  shuffle_front(order, order.size(), random);
  return order;
}

// Chooses the experts of tokens, one token at a time; safe to use from several threads.
class Chooser {
 public:
  Chooser(const Problem& problem, const Route& route) : route_(route), experts_(all_experts(problem.experts)) {
    if (route.kind != RouteKind::kZipf) return;
    experts_ = mixed_experts(problem.experts);
    for (std::size_t rank = 0; rank < experts_.size(); ++rank)
      popularity_.push_back(std::pow(static_cast<double>(rank + 1), -route.exponent));
  }

  void choose(RandomBits& random, std::span<std::int32_t> ids) const {
    if (route_.kind == RouteKind::kZipf) return choose_popular(random, ids);
    std::vector<std::int32_t> order = experts_;
    if (route_.kind != RouteKind::kSkew) shuffle_front(order, ids.size(), random);
    std::copy_n(order.begin(), ids.size(), ids.begin());
    if (route_.kind != RouteKind::kDropped) return;
    for (std::int32_t& id : ids)
      if (random.below(2) == 0) id = -1;
  }

 private:
  void choose_popular(RandomBits& random, std::span<std::int32_t> ids) const {
    std::vector<double> left = popularity_;  // 0: taken
    double total = std::accumulate(left.begin(), left.end(), 0.0);
    for (std::int32_t& id : ids) {
      double at = static_cast<double>(random.uniform()) * total;
      std::size_t rank = left.size();
      for (std::size_t r = 0; r < left.size(); ++r) {
        if (left[r] == 0.0) continue;
        rank = r;  // the last one that is left takes what rounding leaves of `at`
        if (at < left[r]) break;
        at -= left[r];
      }
      id = experts_[rank];
      total -= std::exchange(left[rank], 0.0);
    }
  }

  Route route_;
  std::vector<std::int32_t> experts_;  // by rank
  std::vector<double> popularity_;     // by rank; kZipf only
};

void fill_token(const Chooser& chooser, RandomBits random, std::span<std::uint16_t> x, std::span<std::int32_t> ids,
                std::span<float> weights) {
  for (std::uint16_t& value : x) value = bf16_from_float(random.normal());
  chooser.choose(random, ids);
  float sum = 0.0f;
  for (float& weight : weights) sum += weight = 0.1f + random.uniform();
  for (float& weight : weights) weight /= sum;
}

}  // namespace

std::string Route::to_string() const {
  switch (kind) {
    case RouteKind::kUniform:
      return "uniform";
    case RouteKind::kSkew:
      return "skew";
    case RouteKind::kDropped:
      return "dropped";
    case RouteKind::kZipf:
      break;
  }
  std::ostringstream text;
  text << kZipf << exponent;
  return text.str();
}

Route parse_route(std::string_view text) {
  for (const RouteKind kind : {RouteKind::kUniform, RouteKind::kSkew, RouteKind::kDropped})
    if (text == Route(kind).to_string()) return kind;
  Route route(RouteKind::kZipf);
  const std::string_view number = text.substr(std::min(text.size(), kZipf.size()));
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), route.exponent);
  if (!text.starts_with(kZipf) || error != std::errc() || end != number.data() + number.size() ||
      !(route.exponent >= 0.0 && route.exponent <= 10.0))
    throw Error(Code::kInvalidArgument, "route: asked '", text,
                "', accepted: uniform, skew, dropped, zipf:S with S from 0 to 10");
  return route;
}

Tokens random_tokens(const Problem& problem, std::int64_t count, const Route& route, std::uint64_t seed) {
  const auto hidden = static_cast<std::size_t>(problem.hidden);
  const auto k = static_cast<std::size_t>(problem.top_k);
  const auto n = static_cast<std::size_t>(count);
  Tokens tokens{.count = count, .x = {}, .topk_ids = {}, .topk_weights = {}};
  tokens.x.resize(n * hidden);
  tokens.topk_ids.resize(n * k);
  tokens.topk_weights.resize(n * k);
  const Chooser chooser(problem, route);
  tbb::parallel_for(std::size_t{0}, n, [&](std::size_t t) {
    fill_token(chooser, RandomBits(seed + kTokenStride * (t + 1)), std::span(tokens.x).subspan(t * hidden, hidden),
               std::span(tokens.topk_ids).subspan(t * k, k), std::span(tokens.topk_weights).subspan(t * k, k));
  });
  return tokens;
}

void rotate_experts(const Problem& problem, std::span<Tokens> batches) {
  std::vector<std::int32_t> by_last_use = mixed_experts(problem.experts);  // longest unused first
  for (Tokens& batch : batches) {
    std::vector<std::int32_t> name(by_last_use.size(), -1);
    std::size_t used = 0;
    for (std::int32_t& id : batch.topk_ids) {
      if (id < 0) continue;
      std::int32_t& own = name[static_cast<std::size_t>(id)];
      if (own < 0) own = by_last_use[used++];
      id = own;
    }
    std::rotate(by_last_use.begin(), by_last_use.begin() + static_cast<std::ptrdiff_t>(used), by_last_use.end());
  }
}

int batches_of_a_round(const Problem& problem, std::int64_t tokens) {
  const auto experts = static_cast<double>(problem.experts);
  // Expected number of different experts that uniform tokens choose.
  const double active =
      experts * (1.0 - std::pow(1.0 - static_cast<double>(problem.top_k) / experts, static_cast<double>(tokens)));
  return std::clamp(static_cast<int>(experts / std::max(active, 1.0) + 1e-9), 4, 64);
}

}  // namespace megamoe::bench
