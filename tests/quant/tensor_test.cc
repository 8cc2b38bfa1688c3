// Whole tensors: sources, global scales, layouts and refusals.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/fp16.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/layout.h"
#include "megamoe/quant.h"

namespace megamoe {
namespace {

// Values that BF16, FP16 and FP32 all hold.
std::vector<float> short_values(std::size_t count) {
  std::mt19937 random(3);
  std::uniform_int_distribution<int> integer(-255, 255);
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(integer(random)) * 0x1p-6f;
  return values;
}

ConstTensorView f32(const std::vector<float>& values, Shape shape) { return {values.data(), DType::kF32, shape}; }

void expect_equal(const Nvfp4Tensor& a, const Nvfp4Tensor& b) {
  EXPECT_EQ(a.codes, b.codes);
  EXPECT_EQ(a.sf, b.sf);
  EXPECT_EQ(a.global_scales, b.global_scales);
}

void expect_error(const std::string& sentence, auto call) {
  try {
    call();
    FAIL() << "accepted; expected: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_EQ(error.what(), sentence);
  }
}

TEST(quantize, all_source_types_give_the_same_bytes_also_unaligned) {
  const std::vector<float> values = short_values(5 * 2080);
  const Shape shape{5, 2080};  // rows longer than the conversion buffer
  std::vector<char> bf16(1 + 2 * values.size());
  std::vector<char> fp16(1 + 2 * values.size());
  std::vector<char> fp32(1 + 4 * values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t b = bf16_from_float(values[i]);
    const std::uint16_t h = fp16_from_float(values[i]);
    std::memcpy(&bf16[1 + 2 * i], &b, 2);
    std::memcpy(&fp16[1 + 2 * i], &h, 2);
    std::memcpy(&fp32[1 + 4 * i], &values[i], 4);
  }
  for (const auto mode : {GlobalScaleMode::kPerTensor, GlobalScaleMode::kPerToken}) {
    const Nvfp4Options options{.mode = mode};
    const Nvfp4Tensor want = quantize_nvfp4(f32(values, shape), options);
    expect_equal(quantize_nvfp4({bf16.data() + 1, DType::kBF16, shape}, options), want);
    expect_equal(quantize_nvfp4({fp16.data() + 1, DType::kF16, shape}, options), want);
    expect_equal(quantize_nvfp4({fp32.data() + 1, DType::kF32, shape}, options), want);
  }
}

TEST(quantize, per_token_equals_each_row_alone) {
  std::vector<float> values = short_values(6 * 64);
  for (std::size_t i = 64; i < 128; ++i) values[i] = 0;
  for (std::size_t i = 128; i < 192; ++i) values[i] *= 1000;
  for (const auto recipe : {QuantRecipe::kRne, QuantRecipe::kBridge, QuantRecipe::kFourSix, QuantRecipe::kMse}) {
    const Nvfp4Tensor all =
        quantize_nvfp4(f32(values, {2, 3, 64}), {.recipe = recipe, .mode = GlobalScaleMode::kPerToken});
    ASSERT_EQ(all.global_scales.size(), 6u);
    for (std::size_t row = 0; row < 6; ++row) {
      const std::vector<float> one(values.begin() + static_cast<std::ptrdiff_t>(64 * row),
                                   values.begin() + static_cast<std::ptrdiff_t>(64 * (row + 1)));
      const Nvfp4Tensor alone = quantize_nvfp4(f32(one, {64}), {.recipe = recipe});
      EXPECT_EQ(alone.global_scales[0], all.global_scales[row]);
      EXPECT_TRUE(std::equal(alone.codes.begin(), alone.codes.end(), all.codes.begin() + 32 * row));
      EXPECT_TRUE(std::equal(alone.sf.begin(), alone.sf.end(), all.sf.begin() + 4 * row));
    }
  }
}

TEST(quantize, static_scale_is_used_and_returned) {
  const std::vector<float> values = short_values(64);
  const float own = nvfp4_global_scale(QuantRecipe::kRne, nvfp4_amax(QuantRecipe::kRne, f32(values, {64})));
  expect_equal(quantize_nvfp4(f32(values, {64}), {.mode = GlobalScaleMode::kStatic, .static_global_scale = own}),
               quantize_nvfp4(f32(values, {64}), {}));
  const Nvfp4Tensor clipped =
      quantize_nvfp4(f32(values, {64}), {.mode = GlobalScaleMode::kStatic, .static_global_scale = own / 4});
  EXPECT_EQ(clipped.global_scales, std::vector<float>{own / 4});
  EXPECT_EQ(*std::max_element(clipped.sf.begin(), clipped.sf.end()), kE4m3MaxCode);
}

// Along K of (K, N) is along rows of the transposed (N, K), stored N-major.
TEST(quantize, along_k_is_rows_of_the_transpose) {
  const std::int64_t k = 96;
  for (const std::int64_t n : {1, 63, 64, 130}) {
    const std::vector<float> kn = short_values(static_cast<std::size_t>(k * n));
    std::vector<float> nk(kn.size());
    for (std::int64_t i = 0; i < k; ++i)
      for (std::int64_t j = 0; j < n; ++j)
        nk[static_cast<std::size_t>(j * k + i)] = kn[static_cast<std::size_t>(i * n + j)];
    for (const auto recipe : {QuantRecipe::kRne, QuantRecipe::kBridge, QuantRecipe::kFourSix, QuantRecipe::kMse}) {
      const Nvfp4Tensor along_k = quantize_nvfp4_along_k(f32(kn, {k, n}), {.recipe = recipe});
      const Nvfp4Tensor rows = quantize_nvfp4(f32(nk, {n, k}), {.recipe = recipe});
      Nvfp4Tensor turned = rows;
      k_major_from_n_major(along_k.codes, 1, k / 2, n, turned.codes);
      k_major_from_n_major(along_k.sf, 1, k / 16, n, turned.sf);
      expect_equal(turned, rows);
    }
  }
}

TEST(quantize, exact_values_round_trip) {
  std::vector<float> values(8 * 32);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = i % 16 == 0 ? 6.0f : e2m1_to_float(static_cast<std::uint8_t>(i * 7 % 16));
  const Nvfp4Tensor q =
      quantize_nvfp4(f32(values, {8, 32}), {.mode = GlobalScaleMode::kStatic, .static_global_scale = 0.5f});
  std::vector<float> back(values.size());
  dequantize_nvfp4(q.codes, q.sf, q.global_scales, 8, 32, back);
  EXPECT_EQ(back, values);
}

TEST(quantize, empty_tensors_are_fine) {
  const std::vector<float> none;
  EXPECT_EQ(quantize_nvfp4(f32(none, {0, 64}), {}).global_scales, std::vector<float>{1.0f});
  EXPECT_TRUE(quantize_nvfp4(f32(none, {0, 64}), {.mode = GlobalScaleMode::kPerToken}).global_scales.empty());
  EXPECT_TRUE(quantize_nvfp4(f32(none, {4, 0}), {}).codes.empty());
  EXPECT_TRUE(quantize_nvfp4_along_k(f32(none, {16, 0}), {}).codes.empty());
}

TEST(quantize, one_nan_in_a_tensor_poisons_one_block_only) {
  std::vector<float> values = short_values(4 * 64);
  const Nvfp4Tensor clean = quantize_nvfp4(f32(values, {4, 64}), {});
  values[64 + 17] = std::numeric_limits<float>::quiet_NaN();
  const Nvfp4Tensor got = quantize_nvfp4(f32(values, {4, 64}), {});
  EXPECT_EQ(got.global_scales, clean.global_scales);
  for (std::size_t b = 0; b < got.sf.size(); ++b) EXPECT_EQ(got.sf[b], b == 5 ? kE4m3Nan : clean.sf[b]) << b;
}

TEST(quantize, refuses_with_a_sentence_and_writes_nothing) {
  const std::vector<float> values(64, 1.0f);
  std::vector<std::uint8_t> codes(32, 0xEE);
  std::vector<std::uint8_t> sf(4, 0xEE);
  std::vector<float> global(1, -1.0f);
  const Nvfp4Output out{codes, sf, global};
  expect_error("quantize: K is 8, accepted: multiples of 16", [&] { quantize_nvfp4(f32(values, {8, 8}), {}, out); });
  expect_error("quantize: found type U8, accepted: BF16, F16, F32", [&] {
    quantize_nvfp4({values.data(), DType::kU8, {4, 16}}, {}, out);
  });
  expect_error("quantize: found a scalar, accepted: [..., K]", [&] { quantize_nvfp4(f32(values, {}), {}); });
  expect_error("quantize: codes has 32 elements, expected 16", [&] { quantize_nvfp4(f32(values, {32}), {}, out); });
  expect_error("quantize: global_scales has 1 elements, expected 4", [&] {
    quantize_nvfp4(f32(values, {4, 16}), {.mode = GlobalScaleMode::kPerToken}, out);
  });
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::nanf("")})
    EXPECT_THROW(
        quantize_nvfp4(f32(values, {4, 16}), {.mode = GlobalScaleMode::kStatic, .static_global_scale = bad}, out),
        Error);
  expect_error("quantize along K: found shape [64], accepted: [K, N]",
               [&] { quantize_nvfp4_along_k(f32(values, {64}), {}, out); });
  expect_error("quantize along K: asked a global scale per token, accepted: per tensor, static", [&] {
    quantize_nvfp4_along_k(f32(values, {16, 4}), {.mode = GlobalScaleMode::kPerToken}, out);
  });
  EXPECT_EQ(codes, std::vector<std::uint8_t>(32, 0xEE));
  EXPECT_EQ(sf, std::vector<std::uint8_t>(4, 0xEE));
  EXPECT_EQ(global, std::vector<float>(1, -1.0f));
}

// Tensors take a vector form of recipe rne: magnitudes from subnormal to huge, every tie of E2M1, zeros of both signs,
// and what is no number.
TEST(quantize, a_tensor_by_rne_has_the_bytes_of_its_rows) {
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    constexpr std::size_t kK = 176;
    std::vector<float> row(kK);
    const int spread = round % 3 == 0 ? 200 : 6;
    for (float& value : row)
      value = std::ldexp(static_cast<float>(static_cast<int>(random() % 4001) - 2000) / 2000.0f,
                         static_cast<int>(random() % static_cast<unsigned>(spread)) - spread * 2 / 3);
    constexpr float kTies[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f};
    for (std::size_t i = 0; i < 8; ++i) row[16 + i] = i % 2 == 0 ? kTies[i] : -kTies[i];
    row[24] = 6.0f;
    row[40] = -0.0f;
    if (round % 4 == 1) row[70] = std::numeric_limits<float>::quiet_NaN();
    if (round % 4 == 2) row[90] = -std::numeric_limits<float>::infinity();
    if (round % 4 == 3) std::fill(row.begin() + 96, row.begin() + 112, 0.0f);
    const float global = round % 5 == 0 ? 1.0f : std::ldexp(0.7f, round % 60 - 40);
    std::vector<std::uint8_t> codes(kK / 2), want_codes(kK / 2), sf(kK / 16), want_sf(kK / 16);
    std::vector<float> global_out(1);
    quantize_nvfp4(f32(row, {1, static_cast<std::int64_t>(kK)}),
                   {.mode = GlobalScaleMode::kStatic, .static_global_scale = global}, {codes, sf, global_out});
    quantize_nvfp4_row(QuantRecipe::kRne, row, global, want_codes.data(), want_sf.data());
    ASSERT_EQ(codes, want_codes) << "round " << round;
    ASSERT_EQ(sf, want_sf) << "round " << round;
  }
}

TEST(dequantize, refuses_sizes_that_disagree) {
  std::vector<std::uint8_t> codes(32);
  std::vector<std::uint8_t> sf(4);
  std::vector<float> global(3);
  std::vector<float> values(64);
  expect_error("quantize: global_scales has 3 elements, expected 4",
               [&] { dequantize_nvfp4(codes, sf, global, 4, 16, values); });
  EXPECT_THROW(dequantize_nvfp4(codes, sf, std::span(global).first(1), 2, 16, values), Error);
}

}  // namespace
}  // namespace megamoe
