// Names of the recipes, and how each finds a global scale.
#include <algorithm>
#include <array>

#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"

namespace megamoe {
namespace {

// In the order of the enum.
constexpr std::array<std::string_view, 4> kNames{"rne", "bridge", "four_six", "mse"};

// The largest block scale that four_six and mse map the tensor's amax to (the choice of ModelOpt's four-over-six).
constexpr float kSearchScaleMax = 256.0f;

float amax_without_nan(std::span<const float> values) {
  std::int32_t amax = 0;
  for (const float value : values) {
    const auto bits = static_cast<std::int32_t>(float_bits(value) & ~kFloatSignBit);
    const std::int32_t magnitude = bits > static_cast<std::int32_t>(kFloatInfBits) ? 0 : bits;
    amax = magnitude > amax ? magnitude : amax;
  }
  return float_from_bits(static_cast<std::uint32_t>(amax));
}

}  // namespace

std::string_view quant_recipe_name(QuantRecipe recipe) noexcept { return kNames[static_cast<std::size_t>(recipe)]; }

bool parse_quant_recipe(std::string_view name, QuantRecipe* recipe) noexcept {
  const auto* found = std::find(kNames.begin(), kNames.end(), name);
  if (found == kNames.end()) return false;
  *recipe = static_cast<QuantRecipe>(found - kNames.begin());
  return true;
}

float nvfp4_amax(QuantRecipe recipe, std::span<const float> values) noexcept {
  return recipe == QuantRecipe::kBridge ? nan_or_amax(values.data(), static_cast<std::int64_t>(values.size()))
                                        : amax_without_nan(values);
}

float nvfp4_global_scale(QuantRecipe recipe, float amax) noexcept {
  if (recipe == QuantRecipe::kBridge) return nvfp4_bridge_global_scale(amax);
  return nvfp4_computed_global_scale(amax, recipe == QuantRecipe::kRne ? kNvfp4ScaleMax : kSearchScaleMax);
}

}  // namespace megamoe
