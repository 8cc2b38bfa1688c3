#include "support/test_problem.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "megamoe/error.h"

namespace megamoe::test {
namespace {

constexpr std::array<std::pair<Route, std::string_view>, 7> kRoutes = {{{Route::kUniform, "uniform"},
                                                                        {Route::kOne, "one"},
                                                                        {Route::kSkew, "skew"},
                                                                        {Route::kEmpty, "empty"},
                                                                        {Route::kDropped, "dropped"},
                                                                        {Route::kAllDropped, "all_dropped"},
                                                                        {Route::kPoisoned, "poisoned"}}};

Route parse_route(std::string_view text) {
  for (const auto& [route, name] : kRoutes)
    if (name == text) return route;
  throw Error(Code::kInvalidArgument, "test problem: unknown route '", text, "'");
}

}  // namespace

std::string TestProblem::to_string() const {
  std::ostringstream text;
  text << "t=" << tokens;
  for (const auto& [value, name] : kRoutes)
    if (value == route && route != Route::kUniform) text << " route=" << name;
  if (seed != 1) text << " seed=" << seed;
  text << ' ' << problem.to_string();
  return text.str();
}

void PrintTo(const TestProblem& test, std::ostream* out) { *out << test.to_string(); }

TestProblem parse_test_problem(std::string_view text) {
  TestProblem result;
  std::istringstream words{std::string(text)};
  std::string rest;
  for (std::string word; words >> word;) {
    if (word.starts_with("t="))
      result.tokens = std::stoll(word.substr(2));
    else if (word.starts_with("route="))
      result.route = parse_route(std::string_view(word).substr(6));
    else if (word.starts_with("seed="))
      result.seed = std::stoull(word.substr(5));
    else
      rest += word + ' ';
  }
  result.problem = parse_problem(rest);
  validate(result.problem);
  return result;
}

std::vector<TestProblem> read_problems(const std::string& file) {
  // A test that was built elsewhere is told where the files are.
  const char* folder = std::getenv("MEGAMOE_PROBLEMS");
  const std::string path = (folder != nullptr ? folder : std::string(MEGAMOE_SOURCE_DIR) + "/problems") + "/" + file;
  std::ifstream in(path);
  if (!in) throw Error(Code::kBadFile, path, ": not readable");
  std::vector<TestProblem> problems;
  for (std::string line; std::getline(in, line);) {
    line.resize(std::min(line.size(), line.find('#')));
    if (line.find_first_not_of(" \t") != std::string::npos) problems.push_back(parse_test_problem(line));
  }
  return problems;
}

}  // namespace megamoe::test
