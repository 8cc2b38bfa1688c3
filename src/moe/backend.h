// What a backend is: it takes or refuses a problem, prepares weights, and makes plans. The registry
// (backends/registry.cc) lists them in order of preference.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

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

// One array of prepared weights, as a file keeps it.
struct Section {
  std::string name;  // "routed.down"
  std::span<const std::byte> bytes;
  MemoryKind memory = MemoryKind::kHost;  // where `bytes` lie
};

// The sections of a file, in host memory.
class SectionSource {
 public:
  virtual ~SectionSource() = default;
  // Begins at a multiple of 64 bytes. Throws kBadFile where there is no section of that name, or one of another size.
  virtual std::span<const std::byte> section(std::string_view name, std::size_t bytes) const = 0;
  // Keeps the sections where they are for as long as it lives.
  virtual std::shared_ptr<const void> owner() const = 0;
};

// How a backend's prepared weights are written down and read back (checkpoint/prepared_file.cc).
class PreparedForm {
 public:
  virtual ~PreparedForm() = default;
  // Another number whenever the same weights would give other sections.
  virtual int version() const noexcept = 0;
  virtual std::vector<Section> sections(const PreparedWeights& weights) const = 0;  // of this backend's weights
  virtual std::shared_ptr<const PreparedWeights> load(const Problem& problem, const SectionSource& source) const = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const noexcept = 0;
  // The reason why this backend does not take a (valid) problem on any machine, in one sentence; empty if it does.
  virtual std::string refusal(const Problem& problem) const = 0;
  // The reason why it takes none on this machine or in this build; empty if it does.
  virtual std::string absence() const { return {}; }
  // Whether its plans take a PlanOptions::isa; where not, Plan refuses one.
  virtual bool takes_isa() const noexcept { return false; }
  virtual std::shared_ptr<const PreparedWeights> prepare(const Problem& problem, const ExpertSource& source,
                                                         int threads) const = 0;
  // `weights` are this backend's own.
  virtual std::unique_ptr<PlanImpl> plan(std::shared_ptr<const PreparedWeights> weights,
                                         const PlanOptions& options) const = 0;
  // nullptr: the backend keeps no form of its own that would be worth a file.
  virtual const PreparedForm* prepared_form() const noexcept { return nullptr; }
};

// In order of preference; the last is the reference, which takes every valid problem. (backends/registry.cc)
std::span<const Backend* const> backends();

// Whether `asked`, as PrepareOptions::backend has it, means the backend of that name: "auto" means every one, "cuda"
// means "cuda/sm90" and its like.
bool means_backend(std::string_view asked, std::string_view backend);

}  // namespace megamoe
