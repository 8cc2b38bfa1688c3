#include "moe/check_args.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "megamoe/error.h"

namespace megamoe {
namespace {

std::string refusal_of(const RunArgs& args) {
  try {
    check_device_alignment(args);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST(check_args, arrays_of_a_device_begin_at_multiples_of_16_bytes) {
  alignas(16) std::array<std::uint16_t, 32> values{};
  alignas(16) std::array<float, 32> floats{};
  RunArgs args;
  EXPECT_EQ(refusal_of(args), "");
  args.x = std::span(values).subspan(8);
  args.output = values;
  EXPECT_EQ(refusal_of(args), "");
  args.x = std::span(values).subspan(7);
  EXPECT_EQ(refusal_of(args), "x: begins 14 bytes past a multiple of 16, accepted on a device: at one");
  args.x = values;
  args.output = std::span(values).subspan(1);
  EXPECT_EQ(refusal_of(args), "output: begins 2 bytes past a multiple of 16, accepted on a device: at one");
  args.output = {};
  args.output_f32 = std::span(floats).subspan(2);
  EXPECT_EQ(refusal_of(args), "output_f32: begins 8 bytes past a multiple of 16, accepted on a device: at one");
}

}  // namespace
}  // namespace megamoe
