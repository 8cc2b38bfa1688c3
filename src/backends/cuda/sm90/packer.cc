#include "backends/cuda/sm90/packer.h"

#include <algorithm>
#include <span>

#include "backends/cuda/sm90/pack_kernel.h"
#include "megamoe/error.h"

namespace megamoe::sm90 {
namespace {

std::size_t data_bytes(WeightFormat format, std::int64_t elements) {
  return static_cast<std::size_t>(format == WeightFormat::kNvfp4 ? elements / 2 : elements * 2);
}

}  // namespace

void check_scales(const std::string& what, const MatrixView& matrix) {
  if (matrix.format != WeightFormat::kNvfp4) return;
  const std::span scales(matrix.sf, static_cast<std::size_t>(matrix.rows * matrix.cols / 16));
  const auto bad = std::find_if(scales.begin(), scales.end(), [](std::byte sf) { return sf > std::byte{0x7E}; });
  if (bad == scales.end()) return;
  const std::int64_t block = bad - scales.begin();
  throw Error(Code::kInvalidArgument, "weights: block scale byte ", std::to_integer<int>(*bad), " of ", what,
              " at row ", block / (matrix.cols / 16), ", element ", block % (matrix.cols / 16) * 16,
              " is negative or NaN, accepted: 0x00 to 0x7E");
}

std::size_t canonical_bytes(WeightFormat format, std::int64_t elements) {
  return data_bytes(format, elements) + (format == WeightFormat::kNvfp4 ? static_cast<std::size_t>(elements / 16) : 0);
}

void Packer::pack(const MatrixView& matrix, const MatrixView* up, std::byte* packed) {
  CanonicalRows rows{.rows = matrix.rows, .k = matrix.cols, .pairs = up != nullptr};
  copy(matrix, rows.data[0], rows.sf[0]);
  if (up != nullptr) copy(*up, rows.data[1], rows.sf[1]);
  pack_on_device(matrix.format, rows, packed, nullptr);
}

void Packer::copy(const MatrixView& matrix, const std::byte*& data, const std::byte*& sf) {
  const std::int64_t elements = matrix.rows * matrix.cols;
  data = upload(matrix.data, data_bytes(matrix.format, elements));
  if (matrix.format == WeightFormat::kNvfp4) sf = upload(matrix.sf, static_cast<std::size_t>(elements / 16));
}

const std::byte* Packer::upload(const std::byte* from, std::size_t bytes) {
  const std::size_t at = used_;
  staging_.upload({from, bytes}, at);
  used_ += bytes;
  return staging_.data() + at;
}

}  // namespace megamoe::sm90
