// Recipe `bridge` against bytes that another program wrote.
#include <gtest/gtest.h>

#include "golden/golden_file.h"
#include "megamoe/quant.h"

namespace megamoe {
namespace {

const test::GoldenFile& golden() {
  static const test::GoldenFile file;
  return file;
}

void expect_bytes(const std::string& name, const Nvfp4Tensor& got) {
  EXPECT_EQ(got.sf, golden().bytes(name + ".scale"));
  EXPECT_EQ(got.codes, golden().bytes(name + ".packed"));
  EXPECT_EQ(got.global_scales, std::vector<float>{golden().scalar(name + ".global_scale")});
}

class golden_bridge : public testing::TestWithParam<const char*> {};

TEST_P(golden_bridge, gives_the_same_bytes) {
  const std::string name = GetParam();
  Nvfp4Options options{.recipe = QuantRecipe::kBridge};
  if (name.starts_with("static_scale_")) {
    options.mode = GlobalScaleMode::kStatic;
    options.static_global_scale = golden().scalar(name + ".global_scale");
  }
  const ConstTensorView x = golden().view(name + ".x");
  expect_bytes(name, name.starts_with("w_") ? quantize_nvfp4_along_k(x, options) : quantize_nvfp4(x, options));
}

INSTANTIATE_TEST_SUITE_P(seed, golden_bridge,
                         testing::Values("normal", "heavy_tail", "large", "small", "outlier", "ties", "min_k",
                                         "negative_zero", "all_zero", "zero_and_underflow_blocks", "rank3",
                                         "static_scale_clips", "static_scale_fits", "w_normal", "w_zero_col"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(golden_bridge, static_scale_that_clips_gives_nan_scales) {
  const std::vector<std::uint8_t> sf = golden().bytes("static_scale_clips.scale");
  EXPECT_NE(std::find(sf.begin(), sf.end(), 0x7F), sf.end());
}

}  // namespace
}  // namespace megamoe
