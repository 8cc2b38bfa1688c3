// Every BF16 value under every positive block scale, against a search in integers.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>

#include "megamoe/formats/bf16.h"
#include "megamoe/quant/nvfp4_block.h"

namespace megamoe {
namespace {

// |x| / scale lies between two E2M1 magnitudes, or on their midpoint. Decided exactly, from the definition: x is m *
// 2^e with an 8-bit m, a scale is n * 2^f with a 4-bit n, a midpoint is h / 4 with an integer h, so
//   |x| / scale  vs  h / 4      is      4 m * 2^(e - f)  vs  h n       in integers.
struct Dyadic {
  int mantissa;
  int exponent;
};

Dyadic dyadic_bf16(int bits) {
  const int exponent = (bits >> 7) & 0xFF;
  const int fraction = bits & 0x7F;
  return exponent == 0 ? Dyadic{fraction, -133} : Dyadic{128 + fraction, exponent - 134};
}

Dyadic dyadic_e4m3(int code) { return code < 8 ? Dyadic{code, -9} : Dyadic{8 + code % 8, code / 8 - 10}; }

// The sign of |x| / scale - quarters / 4.
int compare(Dyadic x, Dyadic scale, int quarters) {
  const int shift = x.exponent - scale.exponent;
  const int right = quarters * scale.mantissa;  // at most 20 * 15
  if (x.mantissa == 0) return -1;
  if (shift > 16) return 1;
  if (shift < -16) return -1;  // 4 * 255 * 2^-17 is below every midpoint times a mantissa of 1
  const std::int64_t left = std::int64_t{4} * x.mantissa << (shift + 16);
  const std::int64_t scaled_right = std::int64_t{right} << 16;
  return left < scaled_right ? -1 : left > scaled_right;
}

int exact_code(Dyadic x, Dyadic scale) {
  constexpr std::array<int, 7> kMidpointQuarters{1, 3, 5, 7, 10, 14, 20};
  for (int code = 0; code < 7; ++code) {
    const int order = compare(x, scale, kMidpointQuarters[static_cast<std::size_t>(code)]);
    if (order < 0) return code;
    if (order == 0) return code + code % 2;  // the even neighbour
  }
  return 7;
}

TEST(nvfp4_block, every_bf16_value_under_every_scale_gets_the_nearest_code) {
  std::int64_t checked = 0;
  for (int sf = 1; sf <= kE4m3MaxCode; ++sf) {
    const float step = nvfp4_step(static_cast<std::uint8_t>(sf), 1.0f);
    const Dyadic scale = dyadic_e4m3(sf);
    for (int first = 0; first < 65536; first += kNvfp4Block) {
      std::array<float, kNvfp4Block> x;
      for (int i = 0; i < kNvfp4Block; ++i)
        x[static_cast<std::size_t>(i)] = bf16_to_float(static_cast<std::uint16_t>(first + i));
      std::array<std::uint8_t, kNvfp4BlockBytes> codes;
      nvfp4_encode_block(x.data(), step, codes.data());
      for (int i = 0; i < kNvfp4Block; ++i) {
        const std::uint8_t packed = codes[static_cast<std::size_t>(i / 2)];
        const int got = i % 2 == 0 ? nvfp4_even_k(packed) : nvfp4_odd_k(packed);
        const int bits = first + i;
        const int magnitude = bits & 0x7FFF;
        int want = 0;  // NaN
        if (magnitude <= 0x7F80)
          want = (magnitude == 0x7F80 ? 7 : exact_code(dyadic_bf16(magnitude), scale)) + (bits >= 0x8000 ? 8 : 0);
        ASSERT_EQ(got, want) << "bf16 bits " << bits << ", scale " << sf;
        ++checked;
      }
    }
  }
  EXPECT_EQ(checked, 65536 * 126);
}

// The block scale of every BF16 amax, alone in its block at global scale 1: the nearest E4M3 to amax / 6, ties to even.
TEST(nvfp4_block, every_bf16_amax_gets_the_nearest_scale) {
  for (int bits = 0; bits < 0x7F80; ++bits) {
    std::array<float, kNvfp4Block> x{};
    x[static_cast<std::size_t>(bits % kNvfp4Block)] = -bf16_to_float(static_cast<std::uint16_t>(bits));
    std::array<std::uint8_t, kNvfp4BlockBytes> codes;
    const int sf = nvfp4_block_rne(x.data(), 1.0f, codes.data());
    // Nearest by exact distances: 6 * scale and a BF16 amax are both short, so doubles compare them without error. fp32
    // division by 6 is never a tie unless the exact quotient is one (6 = 2 * 3, a tie point times 3 has few bits).
    const double amax = bf16_to_float(static_cast<std::uint16_t>(bits));
    double best = 1e300;
    int want = 0;
    for (int code = 0; code <= kE4m3MaxCode; ++code) {
      const Dyadic scale = dyadic_e4m3(code);
      const double distance = std::fabs(amax - 6 * std::ldexp(scale.mantissa, scale.exponent));
      if (distance < best || (distance == best && code % 2 == 0)) {
        best = distance;
        want = code;
      }
    }
    ASSERT_EQ(sf, want) << bits;
  }
}

}  // namespace
}  // namespace megamoe
