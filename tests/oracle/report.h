// What a comparison found.
#pragma once

#include <cstdint>
#include <string>

namespace oracle {

struct Report {
  std::int64_t elements = 0;
  std::int64_t outside = 0;    // elements that no rounding explains
  std::int64_t ambiguous = 0;  // elements for which the bound allows more than one code
  double worst_share = 0.0;    // largest |got - want| / bound; stage 2 only
  std::string first;           // the first element outside, in words

  // How far the test can be trusted (stage 2 only): medians over all elements with a finite reference.
  double median_bound = 0.0;
  double median_reference = 0.0;
  std::int64_t zeros = 0;  // elements of the output that are exactly 0

  double ambiguous_share() const {
    return elements == 0 ? 0.0 : static_cast<double>(ambiguous) / static_cast<double>(elements);
  }
};

}  // namespace oracle
