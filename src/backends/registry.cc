// The backends, in order of preference. To add one: its folder, and its line here.

#include "backends/reference/reference.h"
#include "moe/backend.h"

#if MEGAMOE_HAVE_CPU_BACKEND
#include "backends/cpu/cpu.h"
#include "backends/cpu/kernels.h"
#endif
#if MEGAMOE_HAVE_CUDA
#include "backends/cuda/sm90/sm90.h"
#else
#include "backends/cuda/sm90/problems.h"
#endif

namespace megamoe {
namespace {

#if !MEGAMOE_HAVE_CPU_BACKEND || !MEGAMOE_HAVE_CUDA
std::string take_all(const Problem&) { return {}; }

// Stands in the list for a backend that this build left out, so that users still learn why. `problem_refusal` is
// that of the backend, where this build has it.
class AbsentBackend : public Backend {
 public:
  AbsentBackend(std::string_view name, std::string_view reason,
                std::string (*problem_refusal)(const Problem&) = take_all)
      : name_(name), reason_(reason), refusal_(problem_refusal) {}
  std::string_view name() const noexcept override { return name_; }
  std::string refusal(const Problem& problem) const override { return refusal_(problem); }
  std::string absence() const override { return std::string(reason_); }
  std::shared_ptr<const PreparedWeights> prepare(const Problem&, const ExpertSource&, int) const override {
    return nullptr;
  }
  std::unique_ptr<PlanImpl> plan(std::shared_ptr<const PreparedWeights>, const PlanOptions&) const override {
    return nullptr;
  }

 private:
  std::string_view name_;
  std::string_view reason_;
  std::string (*refusal_)(const Problem&);
};
#endif

#if !MEGAMOE_HAVE_CUDA
const Backend& sm90_backend() {
  static const AbsentBackend backend("cuda/sm90", MEGAMOE_CUDA_ABSENT, sm90_refusal);
  return backend;
}
#endif

#if !MEGAMOE_HAVE_CPU_BACKEND
const Backend& cpu_backend() {
  static const AbsentBackend backend("cpu", MEGAMOE_CPU_BACKEND_ABSENT);
  return backend;
}
#endif

}  // namespace

std::span<const Backend* const> backends() {
  static const Backend* const list[] = {&sm90_backend(), &cpu_backend(), &reference_backend()};
  return list;
}

std::vector<std::string> cpu_instruction_sets() {
#if MEGAMOE_HAVE_CPU_BACKEND
  return cpu::targets();
#else
  return {};
#endif
}

}  // namespace megamoe
