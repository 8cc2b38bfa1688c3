// What the oracle is told about one Mixture-of-Experts layer and one call of it: canonical bytes and nothing else.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace oracle {

enum class Weights { kNvfp4, kBf16 };
enum class Activations { kBf16, kNvfp4, kInt8 };
enum class Kind { kSwiglu, kSwigluOai };

// [rows, cols], cols contiguous. nvfp4: codes [rows, cols/2] low nibble first, sf [rows, cols/16] E4M3, and
// value = e2m1 * e4m3 * global. bf16: data [rows, cols] little-endian.
struct Matrix {
  Weights format = Weights::kNvfp4;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  const unsigned char* data = nullptr;
  const unsigned char* sf = nullptr;
  double global = 1.0;
};

struct Expert {
  Matrix gate{}, up{};  // [inter, hidden]
  Matrix down{};        // [hidden, inter]
  std::span<const float> gate_bias{}, up_bias{}, down_bias{};
  double gate_up_input_scale = 0.0;  // global scale of static NVFP4 activations
  double down_input_scale = 0.0;
};

struct Layer {
  std::int64_t hidden = 0;
  std::int64_t inter = 0;
  std::int64_t top_k = 0;
  Activations activations = Activations::kBf16;
  bool static_scale = false;
  Kind kind = Kind::kSwiglu;
  double limit = std::numeric_limits<double>::infinity();
  double alpha = 1.702;
  bool weight_before_gemm2 = false;
  std::vector<Expert> experts{};
  std::int64_t shared_inter = 0;  // 0 = no shared expert
  Activations shared_activations = Activations::kBf16;
  Expert shared{};
  std::span<const float> shared_gate{};  // [hidden], or empty: not gated
};

struct Batch {
  std::int64_t tokens = 0;
  std::span<const std::uint16_t> x{};   // [tokens, hidden] bf16
  std::span<const std::int32_t> ids{};  // [tokens, top_k], below 0 = no row
  std::span<const float> weights{};     // [tokens, top_k]
};

// Rows of the second GEMM's input as the code under test computed them.
struct Rows {
  Activations format = Activations::kBf16;
  std::int64_t rows = 0;
  std::int64_t inter = 0;
  std::span<const std::uint16_t> bf16{};  // [rows, inter]
  std::span<const std::uint8_t> codes{};  // [rows, inter/2]
  std::span<const std::uint8_t> sf{};     // [rows, inter/16]
  std::span<const float> global{};        // [rows]
  std::span<const std::int8_t> int8{};    // [rows, inter]
  std::span<const float> int8_scale{};    // [rows, ceil(inter/64)]
};

struct Intermediate {
  Rows routed{}, shared{};
  std::span<const std::int64_t> row_of{};  // [tokens, top_k]
  bool y_is_bf16 = false;                  // rows of the second GEMM were rounded once more
};

// A whole matrix as doubles [rows * cols]; exact.
std::vector<double> decode(const Matrix& matrix);
// One row of the intermediate as doubles [inter]; exact.
std::vector<double> decode(const Rows& rows, std::int64_t row);

}  // namespace oracle
