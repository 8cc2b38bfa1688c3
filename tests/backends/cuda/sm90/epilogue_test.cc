#include <gtest/gtest.h>

#include "backends/cuda/sm90/every_gate.h"
#include "backends/cuda/sm90/on_hopper.h"

namespace megamoe::sm90::test {
namespace {

class epilogue : public OnHopper {};

// Whoever shortens exp or the quotient there has to know that no bit changes: of one float a GPU tries all.
TEST_F(epilogue, silu_of_every_gate_is_activate_bit_for_bit) {
  const EveryGate all = compare_every_gate();
  EXPECT_EQ(all.compared, 2'218'786'817u) << "0, and every float up to 40 with both signs";
  EXPECT_EQ(all.wrong, 0u) << "one of them: silu(" << all.first_wrong << ")";
}

}  // namespace
}  // namespace megamoe::sm90::test
