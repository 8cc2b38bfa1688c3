#include "megamoe/tensor.h"

#include "megamoe/error.h"

namespace megamoe {
namespace {

struct DTypeRow {
  DType dtype;
  int bits;
  std::string_view name;
};

// In the order of the enum, so that a DType is its own index.
constexpr std::array<DTypeRow, 22> kDTypes{{
    {DType::kBool, 8, "BOOL"},
    {DType::kF4, 4, "F4"},
    {DType::kF6E2M3, 6, "F6_E2M3"},
    {DType::kF6E3M2, 6, "F6_E3M2"},
    {DType::kU8, 8, "U8"},
    {DType::kI8, 8, "I8"},
    {DType::kF8E5M2, 8, "F8_E5M2"},
    {DType::kF8E4M3, 8, "F8_E4M3"},
    {DType::kF8E8M0, 8, "F8_E8M0"},
    {DType::kF8E4M3FNUZ, 8, "F8_E4M3FNUZ"},
    {DType::kF8E5M2FNUZ, 8, "F8_E5M2FNUZ"},
    {DType::kI16, 16, "I16"},
    {DType::kU16, 16, "U16"},
    {DType::kF16, 16, "F16"},
    {DType::kBF16, 16, "BF16"},
    {DType::kI32, 32, "I32"},
    {DType::kU32, 32, "U32"},
    {DType::kF32, 32, "F32"},
    {DType::kC64, 64, "C64"},
    {DType::kF64, 64, "F64"},
    {DType::kI64, 64, "I64"},
    {DType::kU64, 64, "U64"},
}};

constexpr bool rows_follow_enum() {
  for (std::size_t i = 0; i < kDTypes.size(); ++i)
    if (static_cast<std::size_t>(kDTypes[i].dtype) != i) return false;
  return true;
}
static_assert(rows_follow_enum(), "kDTypes must list every DType in the order of the enum");

}  // namespace

int dtype_bits(DType dtype) noexcept { return kDTypes[static_cast<std::size_t>(dtype)].bits; }

std::string_view dtype_name(DType dtype) noexcept { return kDTypes[static_cast<std::size_t>(dtype)].name; }

bool parse_dtype(std::string_view name, DType* dtype) noexcept {
  for (const DTypeRow& row : kDTypes)
    if (row.name == name) {
      *dtype = row.dtype;
      return true;
    }
  return false;
}

Shape::Shape(std::span<const std::int64_t> dims) {
  if (dims.size() > kMaxRank)
    throw Error(Code::kInvalidArgument, "shape: asked rank ", dims.size(), ", accepted: at most ", kMaxRank);
  for (const std::int64_t dim : dims) {
    if (dim < 0) throw Error(Code::kInvalidArgument, "shape: asked dimension ", dim, ", accepted: 0 or more");
    dims_[static_cast<std::size_t>(rank_++)] = dim;
  }
}

std::int64_t Shape::elements() const noexcept {
  std::int64_t product = 1;
  for (const std::int64_t dim : dims()) product *= dim;
  return product;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) text += (axis ? ", " : "") + std::to_string((*this)[axis]);
  return text + "]";
}

}  // namespace megamoe
