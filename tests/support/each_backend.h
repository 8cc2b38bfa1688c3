// Runs a check on every backend that takes a problem, and the cpu backend with every instruction set that this machine
// has. A refusal is printed and counted at the end of the binary. With MEGAMOE_BACKEND in the environment, only on that
// one ("cuda" means every "cuda/...").
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "support/cpu_targets.h"
#include "support/summary.h"

namespace megamoe::test {

enum class CpuTargets {
  kAll,
  kBest,  // the one that a user of this machine gets: for checks of many calls, which would take minutes otherwise
};

inline bool is_asked_for(std::string_view backend) {
  const char* asked = std::getenv("MEGAMOE_BACKEND");
  return asked == nullptr || backend == asked || backend.substr(0, backend.find('/')) == asked;
}

template <class Check>
void for_each_backend(const Problem& problem, const Check& check, CpuTargets targets = CpuTargets::kAll) {
  for (const Candidate& candidate : candidates(problem)) {
    if (!is_asked_for(candidate.backend)) continue;
    if (!candidate.refusal.empty()) {
      note_skip(candidate.backend, problem, candidate.refusal);
      continue;
    }
    if (candidate.backend == "cpu" && targets == CpuTargets::kAll) {
      for_each_cpu_target([&](const std::string& target) {
        SCOPED_TRACE("backend cpu, " + target);
        check(candidate.backend);
      });
    } else {
      SCOPED_TRACE("backend " + std::string(candidate.backend));
      check(candidate.backend);
    }
  }
}

}  // namespace megamoe::test
