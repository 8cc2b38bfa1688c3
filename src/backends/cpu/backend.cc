#include "backends/cpu/cpu.h"
#include "backends/cpu/pack.h"
#include "backends/cpu/plan.h"

namespace megamoe {
namespace {

class CpuForm : public PreparedForm {
 public:
  int version() const noexcept override { return cpu::kLayoutVersion; }
  std::vector<Section> sections(const PreparedWeights& weights) const override {
    return static_cast<const cpu::CpuWeights&>(weights).sections();
  }
  std::shared_ptr<const PreparedWeights> load(const Problem& problem, const SectionSource& source) const override {
    return std::make_shared<cpu::CpuWeights>(problem, source);
  }
};

class CpuBackend : public Backend {
 public:
  std::string_view name() const noexcept override { return "cpu"; }

  std::string refusal(const Problem& problem) const override {
    if (problem.weights == WeightFormat::kBf16 && problem.activations != ActivationFormat::kBf16)
      return "bf16 weights take bf16 activations here, asked " + std::string(megamoe::name(problem.activations));
    if (problem.activations == ActivationFormat::kNvfp4 && problem.activation_scale == ActivationScale::kStatic)
      return "nvfp4 activations take a global scale per token here, asked the checkpoint's static ones";
    return {};
  }

  bool takes_isa() const noexcept override { return true; }

  std::shared_ptr<const PreparedWeights> prepare(const Problem& problem, const ExpertSource& source,
                                                 int threads) const override {
    return std::make_shared<cpu::CpuWeights>(problem, source, threads);
  }

  std::unique_ptr<PlanImpl> plan(std::shared_ptr<const PreparedWeights> weights,
                                 const PlanOptions& options) const override {
    return std::make_unique<cpu::CpuPlan>(std::static_pointer_cast<const cpu::CpuWeights>(weights), options);
  }

  const PreparedForm* prepared_form() const noexcept override { return &form_; }

 private:
  CpuForm form_;
};

}  // namespace

const Backend& cpu_backend() {
  static const CpuBackend backend;
  return backend;
}

}  // namespace megamoe
