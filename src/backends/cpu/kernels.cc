#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels.cc"
#include "hwy/foreach_target.h"  // compiles what follows once for each instruction set
//
#include "backends/cpu/kernels-inl.h"

#if HWY_ONCE
#include "megamoe/error.h"

namespace megamoe::cpu {

HWY_EXPORT(kernels_of_target);

DotFunction Kernels::dot(WeightFormat weights, ActivationFormat activations) const noexcept {
  if (weights == WeightFormat::kBf16) return activations == ActivationFormat::kBf16 ? bf16_bf16 : nullptr;
  switch (activations) {
    case ActivationFormat::kBf16:
      return nvfp4_bf16;
    case ActivationFormat::kNvfp4:
      return nvfp4_nvfp4;
    case ActivationFormat::kInt8:
      return nvfp4_int8;
  }
  return nullptr;
}

const Kernels& kernels() { return *HWY_DYNAMIC_DISPATCH(kernels_of_target)(); }

namespace {

constexpr std::int64_t kCompiled = HWY_TARGETS;

}  // namespace

std::vector<std::string> targets() {
  std::vector<std::string> names;
  // Highway numbers better targets lower.
  for (std::int64_t left = hwy::SupportedTargets() & kCompiled; left != 0; left &= left - 1)
    names.emplace_back(hwy::TargetName(left & -left));
  return names;
}

TargetOverride::TargetOverride(std::string_view target) {
  for (std::int64_t left = hwy::SupportedTargets() & kCompiled; left != 0; left &= left - 1) {
    if (target != hwy::TargetName(left & -left)) continue;
    hwy::SetSupportedTargetsForTest(left & -left);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    return;
  }
  std::string known;
  for (const std::string& name : targets()) known += (known.empty() ? "" : ", ") + name;
  throw Error(Code::kUnsupported, "instruction set: asked ", target, ", this machine and build have: ", known);
}

TargetOverride::~TargetOverride() {
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace megamoe::cpu
#endif  // HWY_ONCE
