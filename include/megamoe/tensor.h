// Element types, shapes and views of row-major tensors. Views never own memory.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace megamoe {

// The element types of safetensors files; the computing parts use a few of them.
enum class DType : std::uint8_t {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3FNUZ,
  kF8E5M2FNUZ,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

int dtype_bits(DType dtype) noexcept;               // 4 for kF4, 16 for kBF16, ...
std::string_view dtype_name(DType dtype) noexcept;  // the safetensors spelling: "BF16", "F8_E4M3", ...
// Returns false, and leaves *dtype alone, for a name that safetensors does not have.
bool parse_dtype(std::string_view name, DType* dtype) noexcept;

inline constexpr int kMaxRank = 8;

// Dimensions of a tensor, outermost first; rank 0 is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const std::int64_t> dims);  // throws kInvalidArgument beyond kMaxRank, or for a negative dim

  int rank() const noexcept { return rank_; }
  std::int64_t operator[](int axis) const noexcept { return dims_[static_cast<std::size_t>(axis)]; }
  std::span<const std::int64_t> dims() const noexcept { return {dims_.data(), static_cast<std::size_t>(rank_)}; }
  std::int64_t elements() const noexcept;  // product of dims; 1 for a scalar
  std::string to_string() const;           // "[7168, 2048]"

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// Read-only dense row-major tensor. `data` may be unaligned for its type: checkpoints do not align tensors.
struct ConstTensorView {
  const void* data = nullptr;
  DType dtype = DType::kU8;
  Shape shape;

  std::int64_t bytes() const noexcept { return shape.elements() * dtype_bits(dtype) / 8; }
};

}  // namespace megamoe
