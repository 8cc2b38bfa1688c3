// Each instruction set's kernels against the plain loops: exactly where sums are exact, within the order of a sum
// elsewhere.
#include "backends/cpu/kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include "backends/cpu/kernels_plain.h"
#include "backends/cpu/packed_layout.h"
#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"

namespace megamoe::cpu {
namespace {

constexpr std::int64_t kMostRows = 37;  // more than two passes of any kernel, and than are spread at once

// Random panels and rows; `exact` keeps every product and sum a small multiple of a power of two.
struct Operands {
  std::int64_t k;
  std::vector<std::byte> nvfp4_panel, bf16_panel;
  std::vector<std::int8_t> q[kMostRows];
  std::vector<float> scale[kMostRows], wide[kMostRows];
  std::vector<std::int32_t> offset[kMostRows];
  std::vector<std::uint16_t> bf16[kMostRows];

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
      bf16[r].resize(static_cast<std::size_t>(k));
      for (std::int64_t i = 0; i < k; ++i) {
        const std::uint16_t bits = bf16_from_float(wide[r][static_cast<std::size_t>(i)]);
        bf16[r][static_cast<std::size_t>(in_pair_order(i))] = bits;
        wide[r][static_cast<std::size_t>(i)] = bf16_to_float(bits);
      }
      const std::int64_t scales = format == ActivationFormat::kNvfp4 ? padded / 16 : padded / 64;
      for (std::int64_t s = 0; s < scales; ++s)
        scale[r].push_back(exact ? std::ldexp(1.0f, below(2)) : static_cast<float>(1 + below(1000)) / 300.0f);
    }
  }

  std::vector<ActivationRow> rows() const {
    std::vector<ActivationRow> all;
    for (std::int64_t r = 0; r < kMostRows; ++r)
      all.push_back({q[r].data(), scale[r].data(), offset[r].data(), wide[r].data(), bf16[r].data(),
                     r % 7 == 5});  // some rows as if they were tiny
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
    {"bf16_bf16", &Kernels::bf16_bf16, plain::dot<plain::lane_bf16_bf16, WeightFormat::kBf16>, WeightFormat::kBf16,
     ActivationFormat::kBf16},
};

// Calls visit(case, operands, rows, vector result, plain result) over instruction sets, shapes and row counts.
template <class Visit>
void for_all(bool exact, Visit visit) {
  for (const std::string& target : targets()) {
    SCOPED_TRACE(target);
    const TargetOverride forced(target);
    ASSERT_EQ(kernels().target, target);
    for (const Case& c : kCases)
      for (const std::int64_t k : {16, 48, 64, 80, 128, 208, 576}) {
        const Operands operands(k, c.activations, exact, static_cast<unsigned>(k));
        const std::byte* panel =
            (c.weights == WeightFormat::kNvfp4 ? operands.nvfp4_panel : operands.bf16_panel).data();
        const std::vector<ActivationRow> rows = operands.rows();
        for (std::int64_t n = 1; n <= kMostRows; ++n) {
          std::vector<float> got(static_cast<std::size_t>(n * kLanes), NAN);
          std::vector<float> want(static_cast<std::size_t>(n * kLanes), NAN);
          (kernels().*c.vector)(panel, k, 1, rows.data(), n, got.data());
          c.plain(panel, k, 1, rows.data(), n, want.data());
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

// Subnormal values, which bf16 products would take for zero: 2^-130 times small integers, exactly.
TEST(cpu_kernels, tiny_values_are_not_lost_on_any_target) {
  constexpr std::int64_t kK = 80;
  const Operands operands(kK, ActivationFormat::kBf16, true, 3);
  std::vector<float> wide(kK);
  std::vector<std::uint16_t> bf16(kK);
  for (std::int64_t i = 0; i < kK; ++i) {
    wide[static_cast<std::size_t>(i)] = static_cast<float>(i % 5 - 2) * 0x1p-130f;
    bf16[static_cast<std::size_t>(in_pair_order(i))] = bf16_from_float(wide[static_cast<std::size_t>(i)]);
  }
  const ActivationRow row{.wide = wide.data(), .bf16 = bf16.data(), .is_tiny = true};
  for (const std::string& target : targets())
    for (const Case& c : kCases) {
      if (c.activations != ActivationFormat::kBf16) continue;
      SCOPED_TRACE(target + " " + c.name);
      const std::byte* panel = (c.weights == WeightFormat::kNvfp4 ? operands.nvfp4_panel : operands.bf16_panel).data();
      float got[kLanes], want[kLanes];
      (kernels(target).*c.vector)(panel, kK, 1, &row, 1, got);
      c.plain(panel, kK, 1, &row, 1, want);
      float largest = 0.0f;
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        ASSERT_EQ(got[lane], want[lane]) << "lane " << lane;
        largest = std::max(largest, std::abs(want[lane]));
      }
      ASSERT_GT(largest, 0.0f);
    }
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
      (kernels().*c.vector)(panel, 144, 1, rows.data(), kMostRows, together);
      for (std::int64_t r = 0; r < kMostRows; ++r) {
        float alone[kLanes];
        (kernels().*c.vector)(panel, 144, 1, &rows[static_cast<std::size_t>(r)], 1, alone);
        for (std::int64_t lane = 0; lane < kLanes; ++lane)
          ASSERT_EQ(alone[lane], together[r * kLanes + lane]) << c.name;
      }
    }
  }
}

// A kernel may begin with the next panel while it is at the last one.
TEST(cpu_kernels, panels_together_give_the_bits_of_each_alone) {
  constexpr std::int64_t kPanels = 3;
  for (const std::string& target : targets()) {
    SCOPED_TRACE(target);
    const TargetOverride forced(target);
    for (const Case& c : kCases)
      for (const std::int64_t k : {48, 80, 320, 576})
        for (const bool tiny : {false, true}) {
          const std::int64_t bytes = panel_bytes(c.weights, k);
          std::vector<std::byte> panels;
          for (unsigned p = 0; p < kPanels; ++p) {
            const Operands one(k, c.activations, false, p);
            const auto& panel = c.weights == WeightFormat::kNvfp4 ? one.nvfp4_panel : one.bf16_panel;
            panels.insert(panels.end(), panel.begin(), panel.end());
          }
          const Operands operands(k, c.activations, false, 11);
          std::vector<ActivationRow> rows = operands.rows();
          for (ActivationRow& row : rows) row.is_tiny &= tiny;
          for (const std::int64_t n : {1, 3, 5, 8, 9, 11, 17, 29, 37}) {
            SCOPED_TRACE(std::string(c.name) + " k=" + std::to_string(k) + " rows=" + std::to_string(n));
            std::vector<float> together(static_cast<std::size_t>(kPanels * n * kLanes), NAN);
            (kernels().*c.vector)(panels.data(), k, kPanels, rows.data(), n, together.data());
            std::vector<float> alone(static_cast<std::size_t>(n * kLanes), NAN);
            for (std::int64_t p = 0; p < kPanels; ++p) {
              (kernels().*c.vector)(panels.data() + p * bytes, k, 1, rows.data(), n, alone.data());
              ASSERT_TRUE(std::equal(alone.begin(), alone.end(), together.begin() + p * n * kLanes)) << "panel " << p;
            }
          }
        }
  }
}

// Values of every size, with the bytes of the scalar functions: rounding to bf16, int8 and nvfp4, and back.
TEST(cpu_kernels, rounding_has_the_scalar_bytes_on_every_target) {
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::vector<float> x;
    for (int i = 0; i < 208; ++i) {
      const int exponent = round % 4 == 0 ? static_cast<int>(random() % 250) - 140 : static_cast<int>(random() % 4);
      x.push_back(std::ldexp(static_cast<float>(static_cast<int>(random() % 2001) - 1000) / 1000.0f, exponent));
    }
    // Ties of E2M1 and of int8, zeros of both signs, and what is no number.
    constexpr float kSpecial[] = {0.25f, -0.75f, 1.25f, 5.0f, 2.5f, 127.0f, 0.5f, 1.5f, -0.0f, 0.0f, 1e-45f};
    for (std::size_t i = 0; i < std::size(kSpecial); ++i)
      x[(i * 17 + static_cast<std::size_t>(round)) % 208] = kSpecial[i];
    if (round % 5 == 1) x[100] = INFINITY;
    if (round % 5 == 2) x[60] = NAN;
    if (round % 5 == 3) std::fill(x.begin() + 64, x.begin() + 128, 0.0f);
    for (const std::string& target : targets()) {
      SCOPED_TRACE(target + ", round " + std::to_string(round));
      const Kernels& k = kernels(target);
      std::vector<std::int8_t> q(208), want_q(208);
      std::vector<float> scale(13, -1.0f), want_scale(13, -1.0f);
      std::vector<std::int32_t> offset(13), want_offset(13);
      k.round_int8(x.data(), 208, q.data(), scale.data(), offset.data());
      plain::round_int8(x.data(), 208, want_q.data(), want_scale.data(), want_offset.data());
      ASSERT_EQ(q, want_q);
      ASSERT_EQ(std::memcmp(scale.data(), want_scale.data(), 4 * sizeof(float)), 0);
      ASSERT_EQ(offset, want_offset);
      const float global = k.round_nvfp4(x.data(), 208, q.data(), scale.data(), offset.data());
      ASSERT_EQ(global, plain::round_nvfp4(x.data(), 208, want_q.data(), want_scale.data(), want_offset.data()));
      ASSERT_EQ(q, want_q);
      for (std::size_t i = 0; i < 13; ++i)
        ASSERT_TRUE(scale[i] == want_scale[i] || (std::isnan(scale[i]) && std::isnan(want_scale[i]))) << i;
      ASSERT_EQ(offset, want_offset);
      std::vector<std::uint16_t> bits(205), want_bits(205);
      k.round_bf16(x.data(), 205, bits.data());
      plain::round_bf16(x.data(), 205, want_bits.data());
      ASSERT_EQ(bits, want_bits);
      std::vector<std::uint16_t> pairs(208), want_pairs(208);
      ASSERT_EQ(k.round_bf16_pairs(x.data(), 208, pairs.data()),
                plain::round_bf16_pairs(x.data(), 208, want_pairs.data()));
      ASSERT_EQ(pairs, want_pairs);
      std::vector<float> wide(205), want_wide(205);
      k.widen_bf16(bits.data(), 205, wide.data());
      plain::widen_bf16(bits.data(), 205, want_wide.data());
      ASSERT_EQ(std::memcmp(wide.data(), want_wide.data(), 205 * sizeof(float)), 0);
    }
  }
}

TEST(cpu_kernels, gate_up_has_the_scalar_bits_on_every_target) {
  std::mt19937 random(9);
  float sums[kLanes], gate_bias[kPairLanes], up_bias[kPairLanes];
  for (float& value : sums) value = static_cast<float>(static_cast<int>(random() % 2000) - 1000) / 50.0f;
  for (float& value : gate_bias) value = static_cast<float>(static_cast<int>(random() % 200) - 100) / 50.0f;
  for (float& value : up_bias) value = static_cast<float>(static_cast<int>(random() % 200) - 100) / 50.0f;
  sums[3] = sums[kPairLanes + 4] = -0.0f;
  for (const bool biased : {false, true})
    for (const std::string& target : targets()) {
      SCOPED_TRACE(target);
      const GateUp of{.gate_scale = 0.3f,
                      .up_scale = 1.7f,
                      .gate_bias = biased ? gate_bias : nullptr,
                      .up_bias = biased ? up_bias : nullptr,
                      .row_weight = 0.77f};
      const Activation activation{.limit = 7.0f};
      float got[kPairLanes], want[kPairLanes];
      kernels(target).gate_up(activation, of, sums, got);
      plain::gate_up(activation, of, sums, want);
      for (std::int64_t i = 0; i < kPairLanes; ++i)
        ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(want[i])) << i;
    }
}

TEST(cpu_kernels, tiny_values_are_found_in_every_place) {
  for (const std::string& target : targets())
    for (std::size_t place = 0; place < 64; ++place)
      for (const float value : {0x1p-90f, -0x1.fcp-91f, 0x1p-133f, -0.0f, 1.0f, NAN}) {
        std::vector<float> x(64, -3.0f);
        x[place] = value;
        std::uint16_t pairs[64];
        EXPECT_EQ(kernels(target).round_bf16_pairs(x.data(), 64, pairs), value != 0.0f && std::abs(value) < 0x1p-90f)
            << target << ", " << value << " at " << place;
      }
}

TEST(cpu_kernels, scaling_rounds_each_operation_on_every_target) {
  std::mt19937 random(13);
  std::vector<float> sums(37), bias(37);
  for (float& value : sums) value = static_cast<float>(random()) * 0x1p-32f - 0.5f;
  for (float& value : bias) value = static_cast<float>(random()) * 0x1p-32f - 0.5f;
  for (const std::string& target : targets())
    for (const float* b : {static_cast<const float*>(nullptr), static_cast<const float*>(bias.data())})
      for (const std::int64_t count : {16, 32, 37}) {
        std::vector<float> got(37, -1.0f), want(37, -1.0f);
        kernels(target).scale(sums.data(), 0.3f, b, 0.7f, count, got.data());
        plain::scale(sums.data(), 0.3f, b, 0.7f, count, want.data());
        ASSERT_EQ(got, want) << target;
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

TEST(cpu_kernels, refuses_an_unknown_target) {
  EXPECT_THROW(TargetOverride("AVX1024"), Error);
  EXPECT_THROW(kernels("AVX1024"), Error);
}

// Functions of different sets are different code: what a table names is what runs.
TEST(cpu_kernels, a_set_is_chosen_by_name_by_override_and_by_the_environment) {
  const std::vector<std::string> all = targets();
  EXPECT_EQ(kernels().target, all.front());
  for (const std::string& target : all) {
    EXPECT_EQ(kernels(target).target, target);
    std::string lower = target;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    EXPECT_EQ(&kernels(lower), &kernels(target));
    ASSERT_EQ(setenv("MEGAMOE_ISA", lower.c_str(), 1), 0);
    EXPECT_EQ(&kernels(), &kernels(target));
    EXPECT_EQ(&kernels(all.front()), &kernels(all.front()));
    ASSERT_EQ(unsetenv("MEGAMOE_ISA"), 0);
    for (const std::string& other : all) {
      if (other == target) continue;
      const bool share_integers = other.starts_with("AVX3_") && target.starts_with("AVX3_");
      EXPECT_EQ(kernels(other).nvfp4_int8 == kernels(target).nvfp4_int8, share_integers) << other << ", " << target;
      EXPECT_NE(kernels(other).nvfp4_bf16, kernels(target).nvfp4_bf16) << other << ", " << target;
    }
  }
}

}  // namespace
}  // namespace megamoe::cpu
