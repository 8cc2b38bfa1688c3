// megamoe verify: judges backends on this machine by the double-precision oracle.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <sstream>

#include "bench/oracle_check.h"
#include "command.h"
#include "findings_output.h"
#include "json_output.h"
#include "layer_choice.h"
#include "megamoe/checkpoint.h"
#include "megamoe/error.h"
#include "messages.h"
#include "output.h"

namespace megamoe::cli {
namespace {

struct Options {
  std::string what;
  std::string backend = "auto";
  std::string activations;
  int threads = 0;
  std::string isa;
  bool json = false;
};

constexpr std::int64_t kLayerTokens = 4;  // of each layer of a checkpoint

// A problem's words and those that only verify knows: t=TOKENS, seed=N, route=uniform|skew|dropped|zipf:S.
struct Case {
  Problem problem;
  std::int64_t tokens = 16;
  std::uint64_t seed = 1;
  bench::Route route;
};

std::int64_t parse_count(const std::string& word, const std::string& digits) {
  constexpr std::size_t kMostDigits = 9;
  if (digits.empty() || digits.size() > kMostDigits || digits.find_first_not_of("0123456789") != std::string::npos)
    throw Error(Code::kInvalidArgument, "verify: '", word, "' needs a number of at most ", kMostDigits, " digits");
  return std::stoll(digits);
}

Case parse_case(const std::string& text) {
  Case result;
  std::string rest;
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::string value = word.substr(std::min(word.size(), word.find('=') + 1));
    if (word.starts_with("t="))
      result.tokens = parse_count(word, value);
    else if (word.starts_with("seed="))
      result.seed = static_cast<std::uint64_t>(parse_count(word, value));
    else if (word.starts_with("route="))
      result.route = bench::parse_route(value);
    else
      rest += word + " ";
  }
  result.problem = parse_problem(rest);
  validate(result.problem);
  return result;
}

struct Line {
  std::string what;
  std::string backend;
  std::string refusal;  // then nothing was checked
  bench::OracleCheck check;
};

// All of them with auto, else the one that was asked for: by its name, or the first of a family that takes the problem
// ("cuda"), or the first of that family, which then says why not.
std::vector<Candidate> chosen_backends(const std::string& asked, const Problem& problem) {
  std::vector<Candidate> all = candidates(problem);
  if (asked == "auto") return all;
  std::erase_if(
      all, [&](const Candidate& c) { return c.backend != asked && c.backend.substr(0, c.backend.find('/')) != asked; });
  const auto takes = std::find_if(all.begin(), all.end(), [](const Candidate& c) { return c.refusal.empty(); });
  return {takes != all.end() ? *takes : all.front()};
}

// One line for each backend asked for: all of them with auto.
void check_layer(const Options& options, const std::string& what, const Problem& problem, const ExpertSource& source,
                 const bench::Tokens& tokens, std::vector<Line>& lines) {
  for (const Candidate& candidate : chosen_backends(options.backend, problem)) {
    const std::string backend(candidate.backend);
    Line line{what, backend, candidate.refusal, {}};
    if (line.refusal.empty()) {
      const auto weights = prepare(problem, source, {.backend = backend, .threads = options.threads});
      const Plan plan(weights, {.max_tokens = tokens.count, .threads = options.threads, .isa = options.isa});
      line.check = bench::check_with_oracle(plan, source, tokens);
    } else if (options.backend != "auto") {
      throw Error(Code::kUnsupported, backend, ": ", line.refusal);
    }
    lines.push_back(std::move(line));
  }
}

std::vector<ActivationFormat> formats_to_check(const Options& options, const Problem& problem) {
  if (!options.activations.empty()) return {parse_activations(options.activations)};
  if (problem.weights == WeightFormat::kBf16) return {ActivationFormat::kBf16};
  return {ActivationFormat::kBf16, ActivationFormat::kNvfp4, ActivationFormat::kInt8};
}

std::vector<Line> check_checkpoint(const Options& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.what);
  std::vector<Line> lines;
  for (const std::int64_t index : checkpoint.layers()) {
    const MoeLayer layer = checkpoint.layer(index);
    for (const ActivationFormat format : formats_to_check(options, layer.problem)) {
      Problem problem = layer.problem;
      problem.activations = format;
      const auto tokens = bench::random_tokens(problem, kLayerTokens, bench::RouteKind::kUniform, 1);
      const std::string what = fmt::format("layer {} a={}", index, name(format));
      message("checking " + what);
      check_layer(options, what, problem, *layer.experts, tokens, lines);
    }
  }
  return lines;
}

std::vector<Line> check_problem(const Options& options) {
  Case given = parse_case(options.what);
  if (!options.activations.empty()) given.problem.activations = parse_activations(options.activations);
  const bench::SyntheticSource source(given.problem, given.seed);
  const auto tokens = bench::random_tokens(given.problem, given.tokens, given.route, given.seed);
  std::vector<Line> lines;
  check_layer(options, fmt::format("t={} {}", given.tokens, given.problem.to_string()), given.problem, source, tokens,
              lines);
  return lines;
}

nlohmann::json to_json(const Line& line) {
  nlohmann::json json{{"what", line.what}, {"backend", line.backend}, {"refusal", line.refusal}};
  if (!line.refusal.empty()) return json;
  const auto& [intermediate, output, agrees] = line.check;
  json.update({{"passed", line.check.passed()},
               {"intermediate_elements", intermediate.elements},
               {"intermediate_outside", intermediate.outside},
               {"intermediate_ambiguous", intermediate.ambiguous},
               {"output_elements", output.elements},
               {"output_outside", output.outside},
               {"worst_share_of_bound", output.worst_share},
               {"bf16_output_agrees", agrees},
               {"fault", line.check.first_fault()}});
  return json;
}

void print_lines(const std::vector<Line>& lines) {
  Table table({{"checked"},
               {"backend"},
               {"result"},
               {"intermediate", Align::kRight},
               {"outside", Align::kRight},
               {"output", Align::kRight},
               {"outside", Align::kRight},
               {"worst error / bound", Align::kRight}});
  for (const Line& line : lines) {
    if (!line.refusal.empty()) {
      table.add_row({line.what, line.backend, "refused", "", "", "", "", ""});
      continue;
    }
    const auto& [intermediate, output, agrees] = line.check;
    table.add_row({line.what, line.backend, line.check.passed() ? "passed" : "FAILED",
                   fmt::format("{}", intermediate.elements), fmt::format("{}", intermediate.outside),
                   fmt::format("{}", output.elements), fmt::format("{}", output.outside),
                   number(output.worst_share, 3)});
  }
  table.print();
}

int run(const Options& options) {
  const bool is_dir = std::filesystem::is_directory(options.what);
  if (!is_dir && options.what.find('=') == std::string::npos)
    throw Error(Code::kBadFile, options.what, ": neither a directory nor the text of a problem (\"t=64 e=8 k=2 ...\")");
  if (!options.isa.empty() && options.backend == "auto")
    throw Error(Code::kInvalidArgument, "--isa ", options.isa,
                ": asked with --backend auto, which judges every backend, accepted: with --backend cpu");
  std::vector<Finding> problems;
  if (is_dir) problems = inspect(options.what).problems;
  std::vector<Line> lines;
  if (problems.empty()) lines = is_dir ? check_checkpoint(options) : check_problem(options);

  bool passed = problems.empty();
  for (const Line& line : lines) {
    if (!line.refusal.empty() || line.check.passed()) continue;
    passed = false;
    error(fmt::format("{} on {}: {}", line.what, line.backend, line.check.first_fault()));
  }
  if (options.json) {
    nlohmann::json checks = nlohmann::json::array();
    for (const Line& line : lines) checks.push_back(to_json(line));
    print_json({{"passed", passed}, {"problems", findings_json(problems)}, {"checks", checks}});
  } else {
    if (!lines.empty()) print_lines(lines);
    print_findings("problem", problems);
    print_line();
    print_line(passed ? good("passed") : bad("failed"));
  }
  return passed ? kDone : kCheckFailed;
}

}  // namespace

void add_verify(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "verify", "Judge backends on this machine by a double-precision oracle",
            "megamoe verify \"t=64 e=8 k=2 h=256 i=128 w=nvfp4 a=nvfp4 route=skew\" --backend cpu", options->json);
  verb.text("WHAT", options->what,
            "Directory of a checkpoint (inspected, then every layer checked), or the text of a problem; beside a "
            "problem's own words: t=TOKENS seed=N route=uniform|skew|dropped|zipf:S",
            Need::kRequired);
  add_activations_option(verb, options->activations);
  add_backend_option(verb, options->backend);
  add_threads_option(verb, options->threads);
  add_isa_option(verb, options->isa);
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
