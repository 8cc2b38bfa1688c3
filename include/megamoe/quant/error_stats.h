// How far a quantised tensor is from what it stands for, accumulated in double precision over any number of pieces.
#pragma once

#include <cstdint>
#include <span>

namespace megamoe {

// A NaN on either side makes all three figures NaN: a broken tensor must not look good.
class ErrorStats {
 public:
  // Adds one piece; the spans must have equal sizes (kInvalidArgument).
  void add(std::span<const float> want, std::span<const float> got);
  // The same for `count` values that somebody else has summed: squares of what is wanted, squares of the errors, and
  // the largest error.
  void add(std::int64_t count, double want2, double error2, double max_abs) noexcept;
  void merge(const ErrorStats& other) noexcept {
    add(other.count_, other.sum_want2_, other.sum_error2_, other.max_abs_);
  }

  std::int64_t count() const noexcept { return count_; }
  double sum_error2() const noexcept { return sum_error2_; }  // of (got - want)^2
  double max_abs() const noexcept { return max_abs_; }        // max |got - want|; 0 of nothing

  // Relative Frobenius error: ||got - want|| / ||want||. A zero reference gives 0 when got is zero too, else Inf.
  double relative_error() const noexcept;

  // Signal to quantisation noise: 20 log10(||want|| / ||got - want||). No error gives +Inf, error on a zero reference
  // -Inf.
  double sqnr_db() const noexcept;

 private:
  std::int64_t count_ = 0;
  double sum_want2_ = 0;
  double sum_error2_ = 0;
  double max_abs_ = 0;
};

}  // namespace megamoe
