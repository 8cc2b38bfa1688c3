#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backends/cpu/kernels.cc"
#include "hwy/foreach_target.h"  // compiles what follows once for each instruction set
//
#include "backends/cpu/kernels-inl.h"

#if HWY_ONCE
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cctype>
#include <cstdlib>

#include "megamoe/error.h"

namespace megamoe::cpu {

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

namespace {

using KernelsOfTarget = const Kernels* (*)();

// By the number of a target's bit; what this build does not hold is null.
constexpr KernelsOfTarget kByBit[] = {HWY_CHOOSE_TARGET_LIST(kernels_of_target)};

KernelsOfTarget compiled(std::int64_t target) {
  const auto bit = static_cast<std::size_t>(std::countr_zero(static_cast<std::uint64_t>(target)));
  if (bit < std::size(kByBit)) return kByBit[bit];
  return HWY_CHOOSE_FALLBACK(kernels_of_target);
}

// Best first.
std::vector<const Kernels*> usable_tables() {
  std::vector<const Kernels*> all;
  // Highway numbers better targets lower.
  for (std::int64_t left = hwy::SupportedTargets() & HWY_TARGETS; left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
#if (HWY_TARGETS & HWY_AVX3_DL) != 0
    if (target == HWY_AVX3_DL && __builtin_cpu_supports("avx512bf16"))
      all.push_back(N_AVX3_DL::kernels_with_bf16_products());
#endif
    if (const KernelsOfTarget of = compiled(target)) all.push_back(of());
  }
  return all;
}

const std::vector<const Kernels*>& usable() {
  static const std::vector<const Kernels*> all = usable_tables();
  return all;
}

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::toupper(x) == std::toupper(y); });
}

const Kernels& named(std::string_view isa) {
  for (const Kernels* kernels : usable())
    if (same_name(kernels->target, isa)) return *kernels;
  std::string known;
  for (const std::string& name : targets()) known += (known.empty() ? "" : ", ") + name;
  throw Error(Code::kUnsupported, "instruction set: asked ", isa, ", this machine and build have: ", known);
}

std::atomic<const Kernels*> override_in_force{nullptr};

}  // namespace

const Kernels& kernels(std::string_view isa) {
  if (!isa.empty()) return named(isa);
  if (const Kernels* forced = override_in_force) return *forced;
  if (const char* asked = std::getenv("MEGAMOE_ISA"); asked != nullptr && *asked != '\0') return named(asked);
  return *usable().front();
}

std::vector<std::string> targets() {
  std::vector<std::string> names;
  for (const Kernels* kernels : usable()) names.emplace_back(kernels->target);
  return names;
}

TargetOverride::TargetOverride(std::string_view target) { override_in_force = &named(target); }

TargetOverride::~TargetOverride() { override_in_force = nullptr; }

}  // namespace megamoe::cpu
#endif  // HWY_ONCE
