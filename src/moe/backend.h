// What a backend is: it takes or refuses a problem, prepares weights, and makes plans. The registry
// (backends/registry.cc) lists them in order of preference.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "megamoe/moe.h"

namespace megamoe {

class PlanImpl {
 public:
  virtual ~PlanImpl() = default;
  virtual MemoryKind memory() const noexcept { return MemoryKind::kHost; }
  virtual std::size_t workspace_bytes() const noexcept = 0;
  virtual std::string describe() const = 0;
  virtual void run(const RunArgs& args) const = 0;  // args have been checked by Plan::run
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const noexcept = 0;
  // The reason why this backend does not take a (valid) problem on any machine, in one sentence; empty if it does.
  virtual std::string refusal(const Problem& problem) const = 0;
  // The reason why it takes none on this machine or in this build; empty if it does.
  virtual std::string absence() const { return {}; }
  virtual std::shared_ptr<const PreparedWeights> prepare(const Problem& problem, const ExpertSource& source,
                                                         int threads) const = 0;
  // `weights` are this backend's own.
  virtual std::unique_ptr<PlanImpl> plan(std::shared_ptr<const PreparedWeights> weights,
                                         const PlanOptions& options) const = 0;
};

// In order of preference; the last is the reference, which takes every valid problem. (backends/registry.cc)
std::span<const Backend* const> backends();

}  // namespace megamoe
