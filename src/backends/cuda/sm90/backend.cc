#include "backends/cuda/common/device.h"
#include "backends/cuda/sm90/packed_weight.h"
#include "backends/cuda/sm90/plan.h"
#include "backends/cuda/sm90/prepare.h"
#include "backends/cuda/sm90/problems.h"
#include "backends/cuda/sm90/sm90.h"

namespace megamoe {
namespace {

class Sm90Form : public PreparedForm {
 public:
  int version() const noexcept override { return sm90::kLayoutVersion; }
  std::vector<Section> sections(const PreparedWeights& weights) const override {
    return static_cast<const sm90::Sm90Weights&>(weights).sections();
  }
  std::shared_ptr<const PreparedWeights> load(const Problem& problem, const SectionSource& source) const override {
    return std::make_shared<sm90::Sm90Weights>(problem, source);
  }
};

class Sm90Backend : public Backend {
 public:
  std::string_view name() const noexcept override { return "cuda/sm90"; }

  std::string refusal(const Problem& problem) const override { return sm90_refusal(problem); }

  std::string absence() const override {
    std::string reason;
    const cuda::Device device = cuda::current_device(reason);
    if (device.index < 0) return reason;
    if (device.major != 9 || device.minor != 0)
      return "needs compute capability 9.0 (H100, H200), found " + device.name + " with " +
             std::to_string(device.major) + "." + std::to_string(device.minor);
    return {};
  }

  std::shared_ptr<const PreparedWeights> prepare(const Problem& problem, const ExpertSource& source,
                                                 int threads) const override {
    return std::make_shared<sm90::Sm90Weights>(problem, source, threads);
  }

  std::unique_ptr<PlanImpl> plan(std::shared_ptr<const PreparedWeights> weights,
                                 const PlanOptions& options) const override {
    std::string reason;
    const int multiprocessors = cuda::current_device(reason).multiprocessors;
    return std::make_unique<sm90::Sm90Plan>(std::static_pointer_cast<const sm90::Sm90Weights>(weights), options,
                                            multiprocessors);
  }

  const PreparedForm* prepared_form() const noexcept override { return &form_; }

 private:
  Sm90Form form_;
};

}  // namespace

const Backend& sm90_backend() {
  static const Sm90Backend backend;
  return backend;
}

}  // namespace megamoe
