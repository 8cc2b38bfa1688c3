#include "checkpoint/findings.h"

#include <map>

namespace megamoe {
namespace {

constexpr std::array<std::string_view, kPitfallCount> kTitles{
    "reciprocal and multiplier global scales mixed up",
    "gate and up have different global scales",
    "input scale missing for some experts",
    "scale is zero, NaN, infinite or denormal",
    "global scale of 1 with subnormal block scales",
    "negative block scale",
    "router quantised, or not excluded in the config",
    "experts left unquantised",
    "weight stored transposed",
    "configs disagree with each other or with the tensors",
    "dimension does not divide into blocks",
    "tensors of one layer spread over several files",
    "global scale with an unusual shape",
    "input scales differ between experts",
    "unusual or ambiguous name prefix",
    "multi-token-prediction layers in another format",
};

}  // namespace

std::string_view pitfall_title(int pitfall) noexcept {
  if (pitfall < 1 || pitfall > kPitfallCount) return "";
  return kTitles[static_cast<std::size_t>(pitfall - 1)];
}

void Findings::limit_each(int most) {
  std::map<int, int> count;
  for (const Finding& finding : list_) ++count[finding.pitfall];
  std::map<int, int> seen;
  std::erase_if(list_, [&](Finding& finding) {
    const int place = ++seen[finding.pitfall];
    const int dropped = count[finding.pitfall] - most;
    if (place == most && dropped > 0) finding.sentence += " (and " + std::to_string(dropped) + " more like it here)";
    return place > most;
  });
}

std::string Finding::to_string() const {
  std::string text = file;
  if (!tensor.empty()) text += (text.empty() ? "" : ": ") + tensor;
  return text.empty() ? sentence : text + ": " + sentence;
}

}  // namespace megamoe
