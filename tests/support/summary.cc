#include "support/summary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

namespace megamoe::test {
namespace {

struct Line {
  int comparisons = 0;
  std::int64_t outputs = 0;
  double worst_share = 0.0;
  std::int64_t codes = 0;
  std::int64_t ambiguous = 0;
};

struct Figures : ::testing::Environment {
  std::map<std::string, Line> lines;
  struct Skips {
    std::string first;  // problem
    int count = 0;
  };
  std::map<std::string, Skips> skips;  // by backend and reason

  void TearDown() override {
    for (const auto& [name, line] : lines)
      std::printf(
          "[ figures  ] %-24s %4d comparisons, %8lld outputs, max error/bound %.3f, %8lld codes, ambiguous %.2f%%\n",
          name.c_str(), line.comparisons, static_cast<long long>(line.outputs), line.worst_share,
          static_cast<long long>(line.codes),
          line.codes == 0 ? 0.0 : 100.0 * static_cast<double>(line.ambiguous) / static_cast<double>(line.codes));
    for (const auto& [why, skip] : skips)
      std::printf("[ skipped  ] %s (%d times, first %s)\n", why.c_str(), skip.count, skip.first.c_str());
  }
};

Figures& figures = *static_cast<Figures*>(::testing::AddGlobalTestEnvironment(new Figures));

}  // namespace

void note_comparison(std::string_view backend, const Problem& problem, bool bf16_output, const oracle::Report& codes,
                     const oracle::Report& sums) {
  Line& line = figures.lines[std::string(backend) + " a=" + std::string(name(problem.activations)) +
                             (bf16_output ? " out=bf16" : " out=f32")];
  ++line.comparisons;
  line.outputs += sums.elements;
  line.worst_share = std::max(line.worst_share, sums.worst_share);
  line.codes += codes.elements;
  line.ambiguous += codes.ambiguous;
}

void note_skip(std::string_view backend, const Problem& problem, std::string_view reason) {
  Figures::Skips& skips = figures.skips[std::string(backend) + ": " + std::string(reason)];
  if (skips.count++ == 0) skips.first = problem.to_string();
}

}  // namespace megamoe::test
