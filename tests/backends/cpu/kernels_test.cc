// Each instruction set's kernels against the plain loops: exactly where sums are exact, within the order of a sum
// elsewhere.
#include "backends/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "backends/cpu/kernels_plain.h"
#include "backends/cpu/packed_layout.h"
#include "megamoe/error.h"

namespace megamoe::cpu {
namespace {

constexpr std::int64_t kMostRows = 8;

// Random panels and rows; `exact` keeps every product and sum a small multiple of a power of two.
struct Operands {
  std::int64_t k;
  std::vector<std::byte> nvfp4_panel, bf16_panel;
  std::vector<std::int8_t> q[kMostRows];
  std::vector<float> scale[kMostRows], wide[kMostRows];
  std::vector<std::int32_t> offset[kMostRows];

  Operands(std::int64_t k_, ActivationFormat format, bool exact, unsigned seed)
      : k(k_),
        nvfp4_panel(static_cast<std::size_t>(panel_bytes(WeightFormat::kNvfp4, k_))),
        bf16_panel(static_cast<std::size_t>(panel_bytes(WeightFormat::kBf16, k_))) {
    std::mt19937 random(seed);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    for (std::int64_t lane = 0; lane < kLanes; ++lane)
      for (std::int64_t i = 0; i < k; ++i) {
        const NibbleAt at = code_at(lane, i);
        nvfp4_panel[static_cast<std::size_t>(at.byte)] |= static_cast<std::byte>(below(16) << at.shift);
        if (i % 16 == 0)
          nvfp4_panel[static_cast<std::size_t>(scale_byte(lane, i))] =
              static_cast<std::byte>(exact ? (9 + below(2)) << 3 : 8 + below(136));
        const auto bits = exact ? static_cast<std::uint16_t>(0x3F80 + 0x40 * below(3) + 0x8000 * below(2))
                                : static_cast<std::uint16_t>(0x3C00 + below(0x400) + 0x8000 * below(2));
        std::memcpy(&bf16_panel[static_cast<std::size_t>(2 * bf16_at(lane, i))], &bits, 2);
      }
    const std::int64_t padded = tiles_of(k) * kTileK;
    constexpr int kDoubled[8] = {0, 1, 2, 3, 4, 6, 8, 12};
    for (std::int64_t r = 0; r < kMostRows; ++r) {
      q[r].resize(static_cast<std::size_t>(padded));
      wide[r].resize(static_cast<std::size_t>(k));
      for (std::int64_t i = 0; i < k; ++i) {
        const int sign = below(2) ? -1 : 1;
        const int value = format == ActivationFormat::kNvfp4 ? sign * kDoubled[below(8)] : below(255) - 127;
        q[r][static_cast<std::size_t>(i)] = static_cast<std::int8_t>(value);
        wide[r][static_cast<std::size_t>(i)] =
            exact ? static_cast<float>(below(9) - 4) : static_cast<float>(below(2000) - 1000) / 512.0f;
      }
      for (std::int64_t b = 0; b < padded / 16; ++b) {
        std::int32_t sum = 0;
        for (std::int64_t i = 16 * b; i < 16 * b + 16; ++i) sum += q[r][static_cast<std::size_t>(i)];
        offset[r].push_back(-12 * sum);
      }
      const std::int64_t scales = format == ActivationFormat::kNvfp4 ? padded / 16 : padded / 64;
      for (std::int64_t s = 0; s < scales; ++s)
        scale[r].push_back(exact ? std::ldexp(1.0f, below(2)) : static_cast<float>(1 + below(1000)) / 300.0f);
    }
  }

  std::vector<ActivationRow> rows() const {
    std::vector<ActivationRow> all;
    for (std::int64_t r = 0; r < kMostRows; ++r)
      all.push_back({q[r].data(), scale[r].data(), offset[r].data(), wide[r].data()});
    return all;
  }
};

struct Case {
  const char* name;
  DotFunction Kernels::*vector;
  DotFunction plain;
  WeightFormat weights;
  ActivationFormat activations;
};

const Case kCases[] = {
    {"nvfp4_int8", &Kernels::nvfp4_int8, plain::dot<plain::lane_nvfp4_int8>, WeightFormat::kNvfp4,
     ActivationFormat::kInt8},
    {"nvfp4_nvfp4", &Kernels::nvfp4_nvfp4, plain::dot<plain::lane_nvfp4_nvfp4>, WeightFormat::kNvfp4,
     ActivationFormat::kNvfp4},
    {"nvfp4_bf16", &Kernels::nvfp4_bf16, plain::dot<plain::lane_nvfp4_bf16>, WeightFormat::kNvfp4,
     ActivationFormat::kBf16},
    {"bf16_bf16", &Kernels::bf16_bf16, plain::dot<plain::lane_bf16_bf16>, WeightFormat::kBf16, ActivationFormat::kBf16},
};

// Calls visit(case, operands, rows, vector result, plain result) over instruction sets, shapes and row counts.
template <class Visit>
void for_all(bool exact, Visit visit) {
  for (const std::string& target : targets()) {
    SCOPED_TRACE(target);
    const TargetOverride forced(target);
    ASSERT_EQ(kernels().target, target);
    for (const Case& c : kCases)
      for (const std::int64_t k : {16, 48, 64, 80, 128, 208}) {
        const Operands operands(k, c.activations, exact, static_cast<unsigned>(k));
        const std::byte* panel =
            (c.weights == WeightFormat::kNvfp4 ? operands.nvfp4_panel : operands.bf16_panel).data();
        const std::vector<ActivationRow> rows = operands.rows();
        for (std::int64_t n = 1; n <= kMostRows; ++n) {
          std::vector<float> got(static_cast<std::size_t>(n * kLanes), NAN);
          std::vector<float> want(static_cast<std::size_t>(n * kLanes), NAN);
          (kernels().*c.vector)(panel, k, rows.data(), n, got.data());
          c.plain(panel, k, rows.data(), n, want.data());
          SCOPED_TRACE(std::string(c.name) + " k=" + std::to_string(k) + " rows=" + std::to_string(n));
          visit(operands, got, want);
          if (::testing::Test::HasFailure()) return;
        }
      }
  }
}

TEST(cpu_kernels, exact_inputs_give_the_plain_bits_on_every_target) {
  for_all(true, [](const Operands&, const std::vector<float>& got, const std::vector<float>& want) {
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(got[i], want[i]) << "row " << i / kLanes << " lane " << i % kLanes;
  });
}

// Both sums lie within k roundings of the exact one; terms are below 12 * 240 * 127 * 4.
TEST(cpu_kernels, random_inputs_differ_by_the_order_of_the_sum_only) {
  for_all(false, [](const Operands& operands, const std::vector<float>& got, const std::vector<float>& want) {
    float largest = 0.0f;
    for (const float value : want) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < got.size(); ++i)
      ASSERT_NEAR(got[i], want[i], static_cast<float>(operands.k) * 0x1p-23f * 8.0f * largest) << "element " << i;
  });
}

TEST(cpu_kernels, a_row_does_not_depend_on_its_neighbours) {
  for (const std::string& target : targets()) {
    SCOPED_TRACE(target);
    const TargetOverride forced(target);
    for (const Case& c : kCases) {
      const Operands operands(144, c.activations, false, 7);
      const std::byte* panel = (c.weights == WeightFormat::kNvfp4 ? operands.nvfp4_panel : operands.bf16_panel).data();
      const std::vector<ActivationRow> rows = operands.rows();
      float together[kMostRows * kLanes];
      (kernels().*c.vector)(panel, 144, rows.data(), kMostRows, together);
      for (std::int64_t r = 0; r < kMostRows; ++r) {
        float alone[kLanes];
        (kernels().*c.vector)(panel, 144, &rows[static_cast<std::size_t>(r)], 1, alone);
        for (std::int64_t lane = 0; lane < kLanes; ++lane)
          ASSERT_EQ(alone[lane], together[r * kLanes + lane]) << c.name;
      }
    }
  }
}

TEST(cpu_kernels, activation_has_the_scalar_bits_on_every_target) {
  std::vector<float> gate, up;
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    gate.push_back(static_cast<float>(static_cast<int>(random() % 40000) - 20000) / 100.0f);
    up.push_back(static_cast<float>(static_cast<int>(random() % 4000) - 2000) / 100.0f);
  }
  for (const float special : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, -1e-40f, 88.8f, -88.8f, -103.9f, 3e38f}) {
    gate.push_back(special);
    up.push_back(1.0f);
    gate.push_back(1.0f);
    up.push_back(special);
  }
  for (const Activation& activation :
       {Activation{}, Activation{.limit = 7.0f}, Activation{.kind = Activation::Kind::kSwigluOai, .limit = 7.0f}})
    for (const std::string& target : targets()) {
      SCOPED_TRACE(target);
      const TargetOverride forced(target);
      std::vector<float> got(gate.size());
      kernels().activate(activation, gate.data(), up.data(), static_cast<std::int64_t>(gate.size()), got.data());
      for (std::size_t i = 0; i < gate.size(); ++i) {
        const float want = activate(activation, gate[i], up[i]);
        if (std::isnan(want))
          ASSERT_TRUE(std::isnan(got[i])) << gate[i] << ", " << up[i];
        else
          ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(want))
              << gate[i] << ", " << up[i];
      }
    }
}

TEST(cpu_kernels, axpy_is_fused_on_every_target) {
  // 1 + 2^-23 squared is 1 + 2^-22 + 2^-46: only a fused operation keeps the last term.
  const float a = 1.0f + 0x1p-23f;
  for (const std::string& target : targets()) {
    SCOPED_TRACE(target);
    const TargetOverride forced(target);
    std::vector<float> y(37, a);
    std::vector<float> sum(37, -(1.0f + 0x1p-22f));
    kernels().axpy(a, y.data(), 37, sum.data());
    for (const float value : sum) ASSERT_EQ(value, 0x1p-46f);
  }
}

TEST(cpu_kernels, refuses_an_unknown_target) { EXPECT_THROW(TargetOverride("AVX1024"), Error); }

}  // namespace
}  // namespace megamoe::cpu
