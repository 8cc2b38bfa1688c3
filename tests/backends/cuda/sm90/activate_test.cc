#include <gtest/gtest.h>

#include "backends/cuda/sm90/every_gate.h"
#include "backends/cuda/sm90/on_hopper.h"

namespace megamoe::sm90::test {
namespace {

class activate : public OnHopper {};

// Whoever shortens exp or the quotient there has to know that no bit changes: of one float a GPU tries all.
TEST_F(activate, silu_of_every_gate_is_activate_bit_for_bit) {
  const EveryGate all = compare_every_gate();
  EXPECT_EQ(all.compared, 2'218'786'817u) << "0, and every float up to 40 with both signs";
  EXPECT_EQ(all.wrong, 0u) << "one of them: silu(" << all.first_wrong << ")";
}

TEST_F(activate, bf16_of_every_gate_and_some_up_is_that_of_activate) {
  const EveryGate all = compare_every_gate_in_bf16();
  EXPECT_EQ(all.compared, 0xFFFFFFFFu) << "all but -0";
  EXPECT_EQ(all.wrong, 0u) << "one of them: a gate of " << all.first_wrong;
}

// What the test above can only sample, for each up has other numbers halfway: the distance they have in common.
TEST_F(activate, the_approximation_is_as_near_as_it_says) {
  const ApproximateSilu all = measure_approximate_silu();
  EXPECT_EQ(all.compared, 0x7F800001u + 0x41000000u) << "0, and every float from -8 to infinity but -0";
  EXPECT_LE(all.units, all.most_units) << "at " << all.farthest << ", of 2^-24 of silu";
  EXPECT_EQ(all.wrong_subnormals, 0u);
  RecordProperty("units", std::to_string(all.units));
}

}  // namespace
}  // namespace megamoe::sm90::test
