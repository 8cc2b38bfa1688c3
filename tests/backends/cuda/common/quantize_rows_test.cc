// The device's NVFP4 against the host's, byte for byte, on values chosen to go wrong.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <functional>

#include "backends/cuda/common/device_array.h"
#include "backends/cuda/common/stages.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/quant.h"
#include "megamoe/quant/nvfp4_block.h"
#include "support/random.h"

namespace megamoe::cuda::test {
namespace {

using megamoe::test::Random;

float random_bits(Random& random) { return float_from_bits(static_cast<std::uint32_t>(random.bits())); }

float random_magnitude(Random& random, int lowest, int highest) {  // in [2^lowest, 2^highest), either sign
  const double value = std::ldexp(1.0 + random.uniform(), lowest + static_cast<int>(random.below(highest - lowest)));
  return static_cast<float>(random.below(2) == 0 ? value : -value);
}

// Kinds of rows; each fills one element at a time.
struct Kind {
  const char* name;
  std::function<float(Random&, std::int64_t column, std::int64_t cols)> element;
};

const std::array<Kind, 16>& kinds() {
  static const std::array<Kind, 16> all{{
      {"normal", [](Random& r, auto, auto) { return static_cast<float>(r.normal()); }},
      {"any bits", [](Random& r, auto, auto) { return random_bits(r); }},
      {"subnormal",
       [](Random& r, auto, auto) { return float_from_bits(static_cast<std::uint32_t>(r.bits()) & 0x807FFFFFu); }},
      {"all binades", [](Random& r, auto, auto) { return random_magnitude(r, -140, 127); }},
      {"zeros of both signs", [](Random& r, auto, auto) { return r.below(2) == 0 ? 0.0f : -0.0f; }},
      {"one value among zeros",
       [](Random& r, std::int64_t c, auto) { return c == 5 ? random_magnitude(r, -140, 127) : 0.0f; }},
      {"huge", [](Random& r, auto, auto) { return random_magnitude(r, 120, 128); }},
      {"tiny", [](Random& r, auto, auto) { return random_magnitude(r, -149, -120); }},
      {"ties: quarters",
       [](Random& r, std::int64_t c, auto) { return c == 0 ? 2688.0f : 0.25f * static_cast<float>(r.below(57) - 28); }},
      {"ties: quarters under every power of two",
       [](Random& r, std::int64_t c, auto) {
         return std::ldexp(c == 0 ? 2688.0f : 0.25f * static_cast<float>(r.below(49) - 24),
                           static_cast<int>(c / 16 % 10) - (c == 0 ? 0 : 3));
       }},
      {"an outlier over small values",
       [](Random& r, std::int64_t c, auto) { return c == 17 ? 1.0e6f : static_cast<float>(r.normal() * 1.0e-2); }},
      {"one NaN",
       [](Random& r, std::int64_t c, std::int64_t cols) {
         return c == cols / 2 ? float_from_bits(0xFFC12345u) : static_cast<float>(r.normal());
       }},
      {"one infinity",
       [](Random& r, std::int64_t c, std::int64_t cols) {
         return c == cols - 1 ? float_from_bits(0xFF800000u) : static_cast<float>(r.normal());
       }},
      {"NaN only", [](Random&, auto, auto) { return float_from_bits(kFloatQuietNanBits); }},
      {"one value everywhere", [](Random&, auto, std::int64_t cols) { return -1.7f * static_cast<float>(cols); }},
      {"blocks of every size",
       [](Random& r, std::int64_t c, auto) {
         return static_cast<float>(r.normal() * std::ldexp(1.0, -static_cast<int>(c / 16 % 24)));
       }},
  }};
  return all;
}

int multiprocessors_of_device() {
  std::string reason;
  static const int count = current_device(reason).multiprocessors;
  return count;
}

struct Case {
  std::int64_t rows;
  std::int64_t cols;
  QuantRecipe recipe = QuantRecipe::kRne;
  bool f32 = false;
  std::int64_t deinterleave = 0;
  std::int64_t top_k = 0;        // above 0: gathered
  std::vector<float> statics{};  // one: of every row; more: of experts, by row_begin
  bool counts_rows = false;      // fewer rows than the grid covers, said on the device
  int multiprocessors = multiprocessors_of_device();
};

std::string describe(const Case& c) {
  return std::string(quant_recipe_name(c.recipe)) + (c.f32 ? " f32 " : " bf16 ") + std::to_string(c.rows) + " x " +
         std::to_string(c.cols) + ", deinterleave " + std::to_string(c.deinterleave) + ", top_k " +
         std::to_string(c.top_k) + ", " + std::to_string(c.statics.size()) + " static scales, " +
         std::to_string(c.multiprocessors) + " multiprocessors";
}

// Returns how many values were compared.
std::int64_t check(const Case& c) {
  Random random(static_cast<std::uint64_t>(c.rows * 1'000'003 + c.cols));
  const std::int64_t width = c.deinterleave == 0 ? c.cols : 2 * c.cols;
  const std::int64_t source_rows = c.top_k > 0 ? (c.rows + c.top_k - 1) / c.top_k + 2 : c.rows;
  const auto kind_of = [&](std::int64_t source_row) -> const Kind& {
    return kinds()[static_cast<std::size_t>(source_row) % kinds().size()];
  };
  std::vector<float> from(static_cast<std::size_t>(source_rows * width));
  for (std::int64_t r = 0; r < source_rows; ++r)
    for (std::int64_t i = 0; i < width; ++i) {
      const float value = kind_of(r).element(random, i, width);
      from[static_cast<std::size_t>(r * width + i)] = c.f32 ? value : bf16_to_float(bf16_from_float(value));
    }
  std::vector<std::uint16_t> from_bf16(from.size());
  std::transform(from.begin(), from.end(), from_bf16.begin(), bf16_from_float);
  std::vector<std::int32_t> choice_of(static_cast<std::size_t>(c.rows));
  for (std::int32_t& choice : choice_of)
    choice = static_cast<std::int32_t>(random.below(source_rows * std::max<std::int64_t>(c.top_k, 1)));
  // Experts of 0, 1, 2, ... rows, and the rest to the last one.
  std::vector<std::int32_t> row_begin(c.statics.size() + 1);
  for (std::size_t e = 1; e < row_begin.size(); ++e)
    row_begin[e] =
        static_cast<std::int32_t>(std::min<std::int64_t>(c.rows, row_begin[e - 1] + static_cast<std::int64_t>(e) - 1));
  row_begin.back() = static_cast<std::int32_t>(c.rows);

  const DeviceArray<float> d_from(c.f32 ? from : std::vector<float>{});
  const DeviceArray<std::uint16_t> d_from_bf16(c.f32 ? std::vector<std::uint16_t>{} : from_bf16);
  const DeviceArray<std::int32_t> d_choice_of(choice_of);
  const DeviceArray<std::int32_t> d_row_begin(row_begin);
  const DeviceArray<float> d_statics(c.statics);
  const DeviceArray<std::int32_t> d_count(std::vector<std::int32_t>{static_cast<std::int32_t>(c.rows)});
  const std::int64_t extra_rows = c.counts_rows ? 5 : 0;
  const auto rows_out = static_cast<std::size_t>(c.rows + extra_rows);
  const auto cols = static_cast<std::size_t>(c.cols);
  const DeviceArray<std::uint8_t> codes(rows_out * cols / 2);
  const DeviceArray<std::uint8_t> sf(rows_out * cols / 16);
  const DeviceArray<std::uint16_t> values(rows_out * cols);
  const DeviceArray<float> global_scale(rows_out);
  QuantizeRows call;
  (c.f32 ? static_cast<void>(call.from_f32 = d_from.data()) : static_cast<void>(call.from_bf16 = d_from_bf16.data()));
  call.deinterleave = c.deinterleave;
  call.cols = c.cols;
  call.max_rows = c.rows + extra_rows;
  call.row_count = c.counts_rows ? d_count.data() : nullptr;
  call.choice_of = c.top_k > 0 ? d_choice_of.data() : nullptr;
  call.top_k = std::max<std::int64_t>(c.top_k, 1);
  call.recipe = c.recipe == QuantRecipe::kRne ? BlockRecipe::kRne : BlockRecipe::kBridge;
  call.static_scale = c.statics.empty() ? nullptr : d_statics.data();
  call.row_begin = c.statics.size() > 1 ? d_row_begin.data() : nullptr;
  call.experts = static_cast<std::int64_t>(c.statics.size());
  call.codes = codes.data();
  call.sf = sf.data();
  call.values = values.data();
  call.global_scale = global_scale.data();
  quantize_rows(call, c.multiprocessors, nullptr);
  const auto got_codes = codes.host();
  const auto got_sf = sf.host();
  const auto got_values = values.host();
  const auto got_scale = global_scale.host();

  std::vector<float> row(cols);
  std::vector<std::uint8_t> want_codes(cols / 2);
  std::vector<std::uint8_t> want_sf(cols / 16);
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const std::int64_t source_row = c.top_k > 0 ? choice_of[static_cast<std::size_t>(r)] / c.top_k : r;
    for (std::int64_t i = 0; i < c.cols; ++i) {
      const std::int64_t g = c.deinterleave;
      const std::int64_t at = g == 0 ? i : i / g * (2 * g) + i % g;
      row[static_cast<std::size_t>(i)] = from[static_cast<std::size_t>(source_row * width + at)];
    }
    std::size_t expert = 0;
    while (c.statics.size() > 1 && row_begin[expert + 1] <= r) ++expert;
    float want_scale = c.statics.empty() ? 0.0f : c.statics[expert];
    if (want_scale == 0.0f) want_scale = nvfp4_global_scale(c.recipe, nvfp4_amax(c.recipe, row));
    quantize_nvfp4_row(c.recipe, row, want_scale, want_codes.data(), want_sf.data());
    const std::string where = describe(c) + ": row " + std::to_string(r) + " (" + kind_of(source_row).name + ")";
    const auto base = static_cast<std::size_t>(r) * cols;
    EXPECT_TRUE(same_number(got_scale[static_cast<std::size_t>(r)], want_scale))
        << where << ": global scale " << got_scale[static_cast<std::size_t>(r)] << ", want " << want_scale;
    for (std::size_t i = 0; i < cols; ++i) {
      const int want_code = i % 2 == 0 ? nvfp4_even_k(want_codes[i / 2]) : nvfp4_odd_k(want_codes[i / 2]);
      const std::uint8_t got_byte = got_codes[(base + i) / 2];
      const int got_code = i % 2 == 0 ? nvfp4_even_k(got_byte) : nvfp4_odd_k(got_byte);
      const float want_value = e2m1_to_float(static_cast<std::uint8_t>(want_code)) * e4m3_to_float(want_sf[i / 16]);
      const float got_value = bf16_to_float(got_values[base + i]);
      const bool same =
          got_code == want_code && got_sf[(base + i) / 16] == want_sf[i / 16] && same_number(got_value, want_value);
      if (!same) {
        ADD_FAILURE() << where << ", column " << i << ", bits " << std::hex << float_bits(row[i]) << std::dec
                      << ": code " << got_code << ", sf " << int{got_sf[(base + i) / 16]} << ", value " << got_value
                      << "; want code " << want_code << ", sf " << int{want_sf[i / 16]} << ", value " << want_value
                      << " under a global scale of " << want_scale;
        return 0;
      }
    }
  }
  for (std::size_t i = static_cast<std::size_t>(c.rows) * cols; i < got_values.size(); ++i)
    if (got_values[i] != poison<std::uint16_t>()) {
      ADD_FAILURE() << describe(c) << ": wrote past the last row";
      return 0;
    }
  return c.rows * c.cols;
}

class QuantizeRowsOnDevice : public OnDevice {};

TEST_F(QuantizeRowsOnDevice, bytes_are_the_hosts_with_a_scale_per_row) {
  std::int64_t compared = 0;
  for (const QuantRecipe recipe : {QuantRecipe::kRne, QuantRecipe::kBridge})
    for (const bool f32 : {false, true}) {
      for (const std::int64_t cols : {16, 32, 80, 512, 528, 2880, 7168})
        compared += check({.rows = 64, .cols = cols, .recipe = recipe, .f32 = f32});
      compared += check({.rows = 1600, .cols = 2048, .recipe = recipe, .f32 = f32});
      compared += check({.rows = 16, .cols = 16384, .recipe = recipe, .f32 = f32});
      compared += check({.rows = 32, .cols = 16400, .recipe = recipe, .f32 = f32});
    }
  EXPECT_GT(compared, 10'000'000);
}

TEST_F(QuantizeRowsOnDevice, bytes_are_the_hosts_with_static_scales) {
  for (const QuantRecipe recipe : {QuantRecipe::kRne, QuantRecipe::kBridge})
    for (const bool f32 : {false, true}) {
      for (const float scale : {1.0f, 0.0078125f, 0.3f, 1.0e-30f, 1.0e-38f, 1.0e30f, 3.0e-4f})
        check({.rows = 48, .cols = 1024, .recipe = recipe, .f32 = f32, .statics = {scale}});
      std::vector<float> of_experts(40);
      for (std::size_t e = 0; e < of_experts.size(); ++e)
        of_experts[e] = e % 3 == 1 ? 0.0f : 0.001f * static_cast<float>(e + 1);  // 0: computed
      check({.rows = 700, .cols = 144, .recipe = recipe, .f32 = f32, .statics = of_experts});
      check({.rows = 700, .cols = 17'424, .recipe = recipe, .f32 = f32, .statics = {0.0f, 0.01f, 0.0f}});
    }
}

TEST_F(QuantizeRowsOnDevice, rows_are_gathered_and_counted_on_the_device) {
  for (const std::int64_t top_k : {1, 3, 8})
    for (const bool f32 : {false, true})
      check({.rows = 900, .cols = 272, .f32 = f32, .top_k = top_k, .counts_rows = true});
  check({.rows = 3, .cols = 16'400, .top_k = 2, .counts_rows = true});
  check({.rows = 0, .cols = 64, .counts_rows = true});
}

TEST_F(QuantizeRowsOnDevice, gate_groups_of_an_interleaved_result_are_taken) {
  for (const QuantRecipe recipe : {QuantRecipe::kRne, QuantRecipe::kBridge})
    for (const std::int64_t group : {8, 16, 64}) {
      check({.rows = 100, .cols = 320, .recipe = recipe, .deinterleave = group});
      check({.rows = 100, .cols = 320, .recipe = recipe, .f32 = true, .deinterleave = group, .statics = {0.002f}});
    }
  check({.rows = 5, .cols = 16'448, .deinterleave = 8});
}

TEST_F(QuantizeRowsOnDevice, any_number_of_multiprocessors_gives_the_same_bytes) {
  for (const int multiprocessors : {1, 7, 1000})
    for (const std::int64_t cols : {512, 7168, 16'400}) {
      check({.rows = 200, .cols = cols, .multiprocessors = multiprocessors});
      check({.rows = 200,
             .cols = cols,
             .f32 = true,
             .top_k = 3,
             .counts_rows = true,
             .multiprocessors = multiprocessors});
    }
}

TEST_F(QuantizeRowsOnDevice, refuses_shapes_that_are_not_whole_blocks) {
  const DeviceArray<std::uint16_t> from(64);
  QuantizeRows call;
  call.from_bf16 = from.data();
  call.max_rows = 1;
  for (const auto& [cols, group] : {std::array<std::int64_t, 2>{24, 0}, {0, 0}, {32, 4}, {48, 32}}) {
    call.cols = cols;
    call.deinterleave = group;
    EXPECT_ANY_THROW(quantize_rows(call, multiprocessors_of_device(), nullptr)) << cols << ", " << group;
  }
}

}  // namespace
}  // namespace megamoe::cuda::test
