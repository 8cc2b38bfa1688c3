// The Hopper backend's packed layout, on the host: places, the decoding's arithmetic, and the way back.
#include "backends/cuda/sm90/packed_weight.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <set>
#include <vector>

#include "backends/cuda/sm90/unpack.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/e2m1.h"
#include "megamoe/formats/e4m3.h"
#include "support/random.h"

namespace megamoe::sm90 {
namespace {

using test::Random;

TEST(packed_weight, ue5m3_holds_every_positive_e4m3_and_gives_it_back) {
  std::set<unsigned> seen;
  for (unsigned e4m3 = 1; e4m3 <= 0x7E; ++e4m3) {
    const unsigned code = ue5m3_from_e4m3(e4m3);
    ASSERT_NE(code, 0u) << "zero is kept for scales that are zero";
    ASSERT_LE(code, 0xFFu);
    ASSERT_TRUE(seen.insert(code).second);
    ASSERT_EQ(e4m3_from_ue5m3(code), e4m3);
    // With 0x70 above it, the bf16 of scale * 2^119.
    ASSERT_EQ(bf16_to_float(static_cast<std::uint16_t>(0x7000u | code << 4)),
              e4m3_to_float(static_cast<std::uint8_t>(e4m3)) * 0x1p119f)
        << "scale byte " << e4m3;
  }
}

TEST(packed_weight, the_bits_of_eight_codes_tile_a_word) {
  std::uint32_t taken = 0;
  for (int reg = 0; reg < 4; ++reg)
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t bits = place_code(15, reg, half);
      ASSERT_EQ(std::popcount(bits), 4);
      ASSERT_EQ(taken & bits, 0u) << "register " << reg << ", half " << half;
      taken |= bits;
    }
  EXPECT_EQ(taken, 0xFFFFFFFFu);
}

TEST(packed_weight, the_bits_of_four_scales_tile_a_word) {
  std::uint32_t taken = 0;
  for (int s = 0; s < 2; ++s)
    for (int row8 = 0; row8 < 2; ++row8) {
      const std::uint32_t bits = place_scale(0xFF, s, row8);
      ASSERT_EQ(taken & bits, 0u) << "step " << s << ", row8 " << row8;
      taken |= bits;
      for (unsigned code = 0; code < 256; ++code) ASSERT_EQ(scale_at(place_scale(code, s, row8), s, row8), code);
    }
  EXPECT_EQ(taken, 0xFFFFFFFFu);
}

// ---- The arithmetic of decode.cuh, from its formulas ----------------------------------------------------------------

std::uint32_t rotate_right(std::uint32_t word, int by) { return std::rotr(word, by); }

// A product of two bf16 of which every bit is kept: mul.bf16x2, one half.
std::uint32_t multiply(std::uint32_t a, std::uint32_t b) {
  const float product = bf16_to_float(static_cast<std::uint16_t>(a)) * bf16_to_float(static_cast<std::uint16_t>(b));
  const std::uint16_t bits = bf16_from_float(product);
  EXPECT_EQ(bf16_to_float(bits), product) << "a product that bf16 does not hold";
  return bits;
}
std::uint32_t multiply_pair(std::uint32_t a, std::uint32_t b) {
  return multiply(a & 0xFFFFu, b & 0xFFFFu) | multiply(a >> 16, b >> 16) << 16;
}

// Registers a0..a3 of a lane for the step with number s of a tile, from its word of codes and of scales.
struct Registers {
  std::uint32_t a[4];
};
Registers decode(std::uint32_t word, std::uint32_t scales, int s) {
  constexpr std::uint32_t kCode = 0x81C081C0u;
  const std::uint32_t turned = s % 2 == 0 ? scales : std::rotl(scales, 8);
  const std::uint32_t scale = (turned & 0x0FF00FF0u) | 0x70007000u;
  const std::uint32_t row = (scale & 0xFFFFu) * 0x00010001u;
  const std::uint32_t row8 = (scale >> 16) * 0x00010001u;
  Registers out{{word & kCode, word << 4 & kCode, rotate_right(word, 6) & kCode,
                 (rotate_right(word, 2) & 0x81808180u) | (word << 6 & 0x00400040u)}};
  out.a[0] = multiply_pair(out.a[0], row);
  out.a[1] = multiply_pair(out.a[1], row8);
  out.a[2] = multiply_pair(out.a[2], row);
  out.a[3] = multiply_pair(out.a[3], row8);
  return out;
}

TEST(packed_weight, decoding_is_exact_for_every_code_place_and_scale) {
  Random random(7);
  for (int reg = 0; reg < 4; ++reg)
    for (int half = 0; half < 2; ++half)
      for (int s = 0; s < 4; ++s)
        for (unsigned e4m3 = 1; e4m3 <= 0x7E; ++e4m3)
          for (unsigned code = 0; code < 16; ++code) {
            // Neighbours hold anything: no bit of theirs may come through.
            std::uint32_t word = static_cast<std::uint32_t>(random.bits()) & ~place_code(15, reg, half);
            word |= place_code(code, reg, half);
            const int row8 = reg % 2;
            std::uint32_t scales = 0;
            for (int i = 0; i < 4; ++i)
              scales |= place_scale(ue5m3_from_e4m3(static_cast<unsigned>(1 + random.below(0x7E))), i / 2, i % 2);
            scales &= ~place_scale(0xFF, s, row8);
            scales |= place_scale(ue5m3_from_e4m3(e4m3), s, row8);
            const std::uint32_t pair = decode(word, scales, s).a[reg];
            const float got = bf16_to_float(static_cast<std::uint16_t>(pair >> (16 * half)));
            const float want = e2m1_to_float(static_cast<std::uint8_t>(code)) *
                               e4m3_to_float(static_cast<std::uint8_t>(e4m3)) / kProductScale;
            ASSERT_EQ(got, want) << "register " << reg << ", half " << half << ", step " << s << ", scale " << e4m3
                                 << ", code " << code;
          }
}

// ---- There and back -------------------------------------------------------------------------------------------------

struct Shape {
  std::int64_t rows, k;
  bool pairs;
};

struct Matrices {
  CanonicalRows rows;
  std::vector<std::byte> data[2], sf[2];
};

Matrices random_matrices(WeightFormat format, const Shape& shape, Random& random) {
  Matrices all{.rows = {.rows = shape.rows, .k = shape.k, .pairs = shape.pairs}};
  const auto elements = static_cast<std::size_t>(shape.rows * shape.k);
  for (int m = 0; m < (shape.pairs ? 2 : 1); ++m) {
    all.data[m].resize(format == WeightFormat::kNvfp4 ? elements / 2 : elements * 2);
    for (std::byte& byte : all.data[m]) byte = static_cast<std::byte>(random.bits());
    if (format == WeightFormat::kNvfp4) all.sf[m].resize(elements / 16);
    for (std::byte& byte : all.sf[m]) byte = static_cast<std::byte>(random.below(8) == 0 ? 0 : random.below(0x7F));
    all.rows.data[m] = all.data[m].data();
    all.rows.sf[m] = all.sf[m].data();
  }
  return all;
}

std::vector<std::byte> pack_all(WeightFormat format, const CanonicalRows& from) {
  const std::int64_t features = from.pairs ? 2 * from.rows : from.rows;
  std::vector<std::byte> packed(static_cast<std::size_t>(matrix_bytes(format, features, from.k)));
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(packed.size()) / 4; ++at) {
    const std::uint32_t word = packed_word(format, from, at);
    std::memcpy(packed.data() + 4 * at, &word, 4);
  }
  return packed;
}

class there_and_back : public ::testing::TestWithParam<Shape> {};

TEST_P(there_and_back, nvfp4) {
  const Shape shape = GetParam();
  Random random(static_cast<std::uint64_t>(shape.rows * 1000 + shape.k));
  const Matrices all = random_matrices(WeightFormat::kNvfp4, shape, random);
  const std::vector<std::byte> packed = pack_all(WeightFormat::kNvfp4, all.rows);
  const PackedRows from{.packed = packed.data(), .rows = shape.rows, .k = shape.k, .pairs = shape.pairs};
  for (int m = 0; m < (shape.pairs ? 2 : 1); ++m)
    for (std::int64_t row = 0; row < shape.rows; ++row)
      for (std::int64_t k = 0; k < shape.k; ++k) {
        const std::int64_t i = row * shape.k + k;
        const unsigned sf = byte_at(all.rows.sf[m], i / 16);
        ASSERT_EQ(unpack_scale(from, m, row, k), sf) << "matrix " << m << ", row " << row << ", k " << k;
        const unsigned code = byte_at(all.rows.data[m], i / 2) >> (i % 2 * 4) & 15u;
        ASSERT_EQ(unpack_code(from, m, row, k), sf == 0 ? 0 : code) << "matrix " << m << ", row " << row << ", k " << k;
      }
  // Nothing but the weights: every set bit of the packed form is one of theirs.
  std::int64_t bits = 0, wanted = 0;
  for (const std::byte byte : packed) bits += std::popcount(std::to_integer<unsigned>(byte));
  for (int m = 0; m < (shape.pairs ? 2 : 1); ++m)
    for (std::int64_t block = 0; block < shape.rows * shape.k / 16; ++block) {
      const unsigned sf = byte_at(all.rows.sf[m], block);
      if (sf == 0) continue;
      wanted += std::popcount(ue5m3_from_e4m3(sf));
      for (int i = 0; i < 8; ++i) wanted += std::popcount(byte_at(all.rows.data[m], block * 8 + i));
    }
  EXPECT_EQ(bits, wanted);
}

TEST_P(there_and_back, bf16) {
  const Shape shape = GetParam();
  Random random(static_cast<std::uint64_t>(shape.rows * 1000 + shape.k));
  const Matrices all = random_matrices(WeightFormat::kBf16, shape, random);
  const std::vector<std::byte> packed = pack_all(WeightFormat::kBf16, all.rows);
  const PackedRows from{.packed = packed.data(), .rows = shape.rows, .k = shape.k, .pairs = shape.pairs};
  std::int64_t bits = 0, wanted = 0;
  for (const std::byte byte : packed) bits += std::popcount(std::to_integer<unsigned>(byte));
  for (int m = 0; m < (shape.pairs ? 2 : 1); ++m)
    for (std::int64_t i = 0; i < shape.rows * shape.k; ++i) {
      const unsigned value = byte_at(all.rows.data[m], 2 * i) | byte_at(all.rows.data[m], 2 * i + 1) << 8;
      ASSERT_EQ(unpack_bf16(from, m, i / shape.k, i % shape.k), value) << "matrix " << m << ", element " << i;
      wanted += std::popcount(value);
    }
  EXPECT_EQ(bits, wanted);
}

INSTANTIATE_TEST_SUITE_P(shapes, there_and_back,
                         ::testing::Values(Shape{16, 16, false}, Shape{16, 16, true}, Shape{128, 64, false},
                                           Shape{64, 64, true}, Shape{144, 80, false}, Shape{80, 144, true},
                                           Shape{176, 48, true}, Shape{304, 208, false}),
                         [](const auto& shape) {
                           return std::to_string(shape.param.rows) + "x" + std::to_string(shape.param.k) +
                                  (shape.param.pairs ? "_gate_up" : "");
                         });

// One place by hand: gate row 5 of the second panel (channel 69), k = 64 + 16 + 11. Step 1 of the K, tile 0, warp 0,
// r 5: lane 4 * 5 + 1, register 2 (row g, second half of 16), odd k.
TEST(packed_weight, a_place_by_hand) {
  const PackedRow at = packed_row(true, 0, 69);
  EXPECT_EQ(at.panel, 1);
  EXPECT_EQ(at.warp, 0);
  EXPECT_EQ(at.r, 5);
  EXPECT_EQ(packed_row(true, 1, 69).r, 13);
  const FragmentPlace place = fragment_place(5, 11);
  EXPECT_EQ(place.lane, 21);
  EXPECT_EQ(place.reg, 2);
  EXPECT_EQ(place.half, 1);
}

}  // namespace
}  // namespace megamoe::sm90
