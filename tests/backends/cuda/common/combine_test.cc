// The device's combine and shared gate against loops on the host: bit for bit.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "backends/cuda/common/device_array.h"
#include "backends/cuda/common/stages.h"
#include "megamoe/formats/bf16.h"
#include "moe/activation_math.h"

namespace megamoe::cuda::test {
namespace {

struct Case {
  std::int64_t tokens;
  std::int64_t top_k;
  std::int64_t hidden;
  std::int64_t parts = 1;
  std::int64_t shared_parts = 0;
  bool weighted = true;
  bool f32 = false;
};

std::string describe(const Case& c) {
  return "tokens " + std::to_string(c.tokens) + ", top_k " + std::to_string(c.top_k) + ", hidden " +
         std::to_string(c.hidden) + ", parts " + std::to_string(c.parts) + ", shared parts " +
         std::to_string(c.shared_parts) + (c.weighted ? ", weighted" : "") + (c.f32 ? ", f32" : ", bf16");
}

std::vector<float> random_floats(std::size_t size, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

constexpr std::int64_t kExperts = 64;

void check(const Case& c) {
  std::mt19937 random(static_cast<unsigned>(c.tokens * 7 + c.top_k * 131 + c.hidden * 3 + c.parts));
  const auto choices = static_cast<std::size_t>(c.tokens * c.top_k);
  const std::int64_t part_rows = c.tokens * c.top_k + 3;
  std::vector<std::int32_t> ids(choices);
  std::vector<std::int32_t> row_of(choices);
  std::vector<float> weights = random_floats(choices, random);
  for (std::size_t i = 0; i < choices; ++i) {
    ids[i] = static_cast<std::int32_t>(random() % kExperts);
    row_of[i] = static_cast<std::int32_t>((i * 5 + 2) % static_cast<std::size_t>(part_rows));
    if (random() % 5 == 0) {  // dropped: its weight must not matter
      ids[i] = -1;
      row_of[i] = -1;
      weights[i] = float_from_bits(kFloatQuietNanBits);
    }
  }
  if (c.tokens > 2) {  // two poisoned tokens, in their first and in their last choice
    ids[static_cast<std::size_t>(c.top_k)] = -2;
    row_of[static_cast<std::size_t>(c.top_k)] = -1;
    ids[static_cast<std::size_t>(3 * c.top_k - 1)] = kExperts;
    row_of[static_cast<std::size_t>(3 * c.top_k - 1)] = -1;
  }
  const auto hidden = static_cast<std::size_t>(c.hidden);
  const std::vector<float> y = random_floats(static_cast<std::size_t>(c.parts * part_rows) * hidden, random);
  const std::vector<float> shared_y =
      random_floats(static_cast<std::size_t>(c.shared_parts * c.tokens) * hidden, random);
  const std::vector<float> factor = random_floats(static_cast<std::size_t>(c.tokens), random);

  const DeviceArray<std::int32_t> d_ids(ids);
  const DeviceArray<std::int32_t> d_row_of(row_of);
  const DeviceArray<float> d_weights(weights);
  const DeviceArray<float> d_y(y);
  const DeviceArray<float> d_shared(shared_y);
  const DeviceArray<float> d_factor(factor);
  const auto outputs = static_cast<std::size_t>(c.tokens) * hidden;
  const DeviceArray<std::uint16_t> d_output(outputs);
  const DeviceArray<float> d_output_f32(outputs);
  Combine call;
  call.tokens = c.tokens;
  call.top_k = c.top_k;
  call.hidden = c.hidden;
  call.experts = kExperts;
  call.topk_ids = d_ids.data();
  call.topk_weights = c.weighted ? d_weights.data() : nullptr;
  call.row_of = d_row_of.data();
  call.y = d_y.data();
  call.parts = c.parts;
  call.part_rows = part_rows;
  call.shared_y = c.shared_parts > 0 ? d_shared.data() : nullptr;
  call.shared_parts = c.shared_parts;
  const bool has_factor = c.shared_parts > 1;
  call.shared_factor = has_factor ? d_factor.data() : nullptr;
  (c.f32 ? static_cast<void>(call.output_f32 = d_output_f32.data()) : static_cast<void>(call.output = d_output.data()));
  combine(call, nullptr);
  const std::vector<std::uint16_t> bf16 = d_output.host();
  const std::vector<float> f32 = d_output_f32.host();

  const auto summed = [&](const std::vector<float>& parts, std::int64_t count, std::int64_t rows, std::int64_t row,
                          std::size_t n) {
    float sum = parts[static_cast<std::size_t>(row) * hidden + n];
    for (std::int64_t p = 1; p < count; ++p) sum += parts[static_cast<std::size_t>(p * rows + row) * hidden + n];
    return sum;
  };
  for (std::int64_t t = 0; t < c.tokens; ++t)
    for (std::size_t n = 0; n < hidden; ++n) {
      float sum = 0.0f;
      for (std::int64_t j = 0; j < c.top_k; ++j) {
        const auto choice = static_cast<std::size_t>(t * c.top_k + j);
        if (ids[choice] < -1 || ids[choice] >= kExperts) sum = float_from_bits(kFloatQuietNanBits);
        if (row_of[choice] < 0) continue;
        sum = std::fma(c.weighted ? weights[choice] : 1.0f, summed(y, c.parts, part_rows, row_of[choice], n), sum);
      }
      if (c.shared_parts > 0)
        sum = std::fma(has_factor ? factor[static_cast<std::size_t>(t)] : 1.0f,
                       summed(shared_y, c.shared_parts, c.tokens, t, n), sum);
      const std::size_t at = static_cast<std::size_t>(t) * hidden + n;
      const float want = c.f32 ? sum : bf16_to_float(bf16_from_float(sum));
      const float got = c.f32 ? f32[at] : bf16_to_float(bf16[at]);
      ASSERT_TRUE(same_number(got, want))
          << describe(c) << ": token " << t << ", column " << n << ": got " << got << ", want " << want;
    }
}

class CombineOnDevice : public OnDevice {};

TEST_F(CombineOnDevice, has_the_bits_of_a_loop_on_the_host) {
  for (const std::int64_t tokens : {1, 2, 63, 64, 130})
    for (const std::int64_t top_k : {1, 2, 6, 8, 9, 17})
      for (const std::int64_t hidden : {16, 528, 2880}) {
        check({tokens, top_k, hidden});
        check({tokens, top_k, hidden, 2, 1, false, true});
      }
}

TEST_F(CombineOnDevice, adds_parts_in_ascending_order) {
  for (const std::int64_t parts : {1, 2, 3, 4, 5, 8})
    for (const std::int64_t shared_parts : {0, 1, 3}) check({5, 8, 144, parts, shared_parts, true, parts % 2 == 0});
}

TEST_F(CombineOnDevice, takes_wide_rows_and_no_tokens) {
  check({1, 8, 7168, 4, 1});
  check({0, 8, 7168});
}

class SharedGateOnDevice : public OnDevice {};

TEST_F(SharedGateOnDevice, is_the_sigmoid_of_the_dot_product) {
  std::mt19937 random(5);
  for (const std::int64_t hidden : {16, 1040, 7168}) {
    constexpr std::int64_t kTokens = 70;
    const auto width = static_cast<std::size_t>(hidden);
    std::vector<std::uint16_t> x(width * kTokens);
    for (std::uint16_t& bits : x) bits = bf16_from_float(std::normal_distribution<float>(0.0f, 0.3f)(random));
    const std::vector<float> gate = random_floats(width, random);
    const DeviceArray<std::uint16_t> d_x(x);
    const DeviceArray<float> d_gate(gate);
    const DeviceArray<float> d_factor(kTokens);
    shared_gate(d_x.data(), d_gate.data(), kTokens, hidden, d_factor.data(), nullptr);
    const std::vector<float> factor = d_factor.host();
    for (std::size_t t = 0; t < kTokens; ++t) {
      double sum = 0.0;
      for (std::size_t i = 0; i < width; ++i)
        sum += static_cast<double>(bf16_to_float(x[t * width + i])) * static_cast<double>(gate[i]);
      // Another order of the sum in double can change its float by one unit in the last place.
      const auto dot = static_cast<float>(sum);
      const float below = sigmoid(std::nextafter(dot, -INFINITY));
      const float above = sigmoid(std::nextafter(dot, INFINITY));
      ASSERT_GE(factor[t], std::min(below, sigmoid(dot))) << "hidden " << hidden << ", token " << t;
      ASSERT_LE(factor[t], std::max(above, sigmoid(dot))) << "hidden " << hidden << ", token " << t;
    }
    shared_gate(d_x.data() + width * 33, d_gate.data(), 1, hidden, d_factor.data(), nullptr);
    EXPECT_EQ(float_bits(d_factor.host()[0]), float_bits(factor[33])) << "alone and in a batch";
  }
}

}  // namespace
}  // namespace megamoe::cuda::test
