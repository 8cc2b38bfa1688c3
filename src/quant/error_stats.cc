#include "megamoe/quant/error_stats.h"

#include <cmath>
#include <limits>

#include "megamoe/error.h"

namespace megamoe {
namespace {

// Keeps a NaN on either side, which std::max does not.
double max_or_nan(double a, double b) { return b <= a || std::isnan(a) ? a : b; }

}  // namespace

void ErrorStats::add(std::span<const float> want, std::span<const float> got) {
  if (want.size() != got.size())
    throw Error(Code::kInvalidArgument, "error statistics: found ", got.size(), " values, expected ", want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double reference = want[i];
    const double error = static_cast<double>(got[i]) - reference;
    sum_want2_ += reference * reference;
    sum_error2_ += error * error;
    max_abs_ = max_or_nan(max_abs_, std::fabs(error));
  }
  count_ += static_cast<std::int64_t>(want.size());
}

void ErrorStats::add(std::int64_t count, double want2, double error2, double max_abs) noexcept {
  count_ += count;
  sum_want2_ += want2;
  sum_error2_ += error2;
  max_abs_ = max_or_nan(max_abs_, max_abs);
}

double ErrorStats::relative_error() const noexcept {
  if (sum_error2_ == 0) return 0;
  return std::sqrt(sum_error2_ / sum_want2_);  // x / 0 is Inf
}

double ErrorStats::sqnr_db() const noexcept {
  if (sum_error2_ == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(sum_want2_ / sum_error2_);  // log10(0) is -Inf
}

}  // namespace megamoe
