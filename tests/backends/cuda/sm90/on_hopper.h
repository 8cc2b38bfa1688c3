// Tests of the Hopper backend's parts are skipped, with the reason, where no H100 or H200 is.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "backends/cuda/sm90/sm90.h"

namespace megamoe::sm90::test {

class OnHopper : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = sm90_backend().absence(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

}  // namespace megamoe::sm90::test
