// Problem as text and its validation.

#include <charconv>
#include <cmath>
#include <sstream>

#include "megamoe/error.h"
#include "megamoe/moe.h"

namespace megamoe {
namespace {

constexpr std::string_view kAcceptedWords =
    "h=N i=N e=N k=N w=nvfp4|bf16 a=bf16|nvfp4|int8 scale=static act=oai[:ALPHA] limit=L bias topk=before "
    "shared=N:nvfp4|bf16[:gated]";

// Splits "a:b:c" at its first colon; the second part is empty where there is none.
std::pair<std::string_view, std::string_view> cut(std::string_view text, char at) {
  const std::size_t i = text.find(at);
  if (i == std::string_view::npos) return {text, {}};
  return {text.substr(0, i), text.substr(i + 1)};
}

template <class T>
T parse_number(std::string_view word, std::string_view digits) {
  T value{};
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size())
    throw Error(Code::kInvalidArgument, "problem: '", word, "' needs a number, found '", digits, "'");
  return value;
}

[[noreturn]] void refuse_word(std::string_view word) {
  throw Error(Code::kInvalidArgument, "problem: unknown word '", word, "', accepted: ", kAcceptedWords);
}

WeightFormat parse_weights(std::string_view word, std::string_view value) {
  for (const WeightFormat format : {WeightFormat::kNvfp4, WeightFormat::kBf16})
    if (name(format) == value) return format;
  refuse_word(word);
}

ActivationFormat parse_activations(std::string_view word, std::string_view value) {
  for (const ActivationFormat format : {ActivationFormat::kBf16, ActivationFormat::kNvfp4, ActivationFormat::kInt8})
    if (name(format) == value) return format;
  refuse_word(word);
}

SharedExpert parse_shared(std::string_view word, std::string_view value) {
  const auto [inter, rest] = cut(value, ':');
  const auto [format, gated] = cut(rest, ':');
  if (!gated.empty() && gated != "gated") refuse_word(word);
  return {.inter = parse_number<std::int64_t>(word, inter),
          .weights = parse_weights(word, format),
          .gated = gated == "gated"};
}

void parse_word(std::string_view word, Problem& problem) {
  const auto [key, value] = cut(word, '=');
  if (key == "h") {
    problem.hidden = parse_number<std::int64_t>(word, value);
  } else if (key == "i") {
    problem.inter = parse_number<std::int64_t>(word, value);
  } else if (key == "e") {
    problem.experts = parse_number<std::int64_t>(word, value);
  } else if (key == "k") {
    problem.top_k = parse_number<std::int64_t>(word, value);
  } else if (key == "w") {
    problem.weights = parse_weights(word, value);
  } else if (key == "a") {
    problem.activations = parse_activations(word, value);
  } else if (word == "scale=static") {
    problem.activation_scale = ActivationScale::kStatic;
  } else if (key == "act" && cut(value, ':').first == "oai") {
    problem.activation.kind = Activation::Kind::kSwigluOai;
    if (const std::string_view alpha = cut(value, ':').second; !alpha.empty())
      problem.activation.alpha = parse_number<float>(word, alpha);
  } else if (key == "limit") {
    problem.activation.limit = parse_number<float>(word, value);
  } else if (word == "bias") {
    problem.has_bias = true;
  } else if (word == "topk=before") {
    problem.topk_weight = TopkWeightPlace::kBeforeGemm2;
  } else if (key == "shared") {
    problem.shared = parse_shared(word, value);
  } else {
    refuse_word(word);
  }
}

// Weights of one matrix stay below 2^40 elements, so that no product of sizes overflows 64 bits.
constexpr std::int64_t kMaxDim = 1 << 20;
constexpr std::int64_t kMaxExperts = 1 << 16;

void check_dim(std::string_view what, std::int64_t asked) {
  if (asked < 16 || asked > kMaxDim || asked % 16 != 0)
    throw Error(Code::kInvalidArgument, what, ": asked ", asked, ", accepted: multiples of 16 from 16 to ", kMaxDim);
}

}  // namespace

std::string_view name(WeightFormat format) noexcept {
  switch (format) {
    case WeightFormat::kNvfp4:
      return "nvfp4";
    case WeightFormat::kBf16:
      return "bf16";
  }
  return "?";
}

std::string_view name(ActivationFormat format) noexcept {
  switch (format) {
    case ActivationFormat::kBf16:
      return "bf16";
    case ActivationFormat::kNvfp4:
      return "nvfp4";
    case ActivationFormat::kInt8:
      return "int8";
  }
  return "?";
}

ActivationFormat shared_activations(const Problem& problem) noexcept {
  return problem.shared.weights == WeightFormat::kBf16 ? ActivationFormat::kBf16 : problem.activations;
}

std::string Problem::to_string() const {
  const Activation plain;
  std::ostringstream text;
  text.precision(9);  // enough for any float to come back
  text << "h=" << hidden << " i=" << inter << " e=" << experts << " k=" << top_k << " w=" << name(weights)
       << " a=" << name(activations);
  if (activation_scale == ActivationScale::kStatic) text << " scale=static";
  if (activation.kind == Activation::Kind::kSwigluOai) {
    text << " act=oai";
    if (activation.alpha != plain.alpha) text << ':' << activation.alpha;
  }
  if (activation.limit != plain.limit) text << " limit=" << activation.limit;
  if (has_bias) text << " bias";
  if (topk_weight == TopkWeightPlace::kBeforeGemm2) text << " topk=before";
  if (shared.inter != 0)
    text << " shared=" << shared.inter << ':' << name(shared.weights) << (shared.gated ? ":gated" : "");
  return text.str();
}

Problem parse_problem(std::string_view text) {
  Problem problem;
  while (true) {
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) return problem;
    text.remove_prefix(begin);
    const std::string_view word = text.substr(0, text.find(' '));
    parse_word(word, problem);
    text.remove_prefix(word.size());
  }
}

void validate(const Problem& problem) {
  check_dim("hidden", problem.hidden);
  check_dim("inter", problem.inter);
  if (problem.shared.inter != 0) check_dim("shared.inter", problem.shared.inter);
  if (problem.experts < 1 || problem.experts > kMaxExperts)
    throw Error(Code::kInvalidArgument, "experts: asked ", problem.experts, ", accepted: 1 to ", kMaxExperts);
  if (problem.top_k < 1 || problem.top_k > problem.experts)
    throw Error(Code::kInvalidArgument, "top_k: asked ", problem.top_k, ", accepted: 1 to experts = ", problem.experts);
  if (!(problem.activation.limit > 0.0f))
    throw Error(Code::kInvalidArgument, "activation.limit: asked ", problem.activation.limit,
                ", accepted: above 0, infinity for none");
  if (!std::isfinite(problem.activation.alpha))
    throw Error(Code::kInvalidArgument, "activation.alpha: asked ", problem.activation.alpha, ", accepted: finite");
}

}  // namespace megamoe
