#include "megamoe/tensor_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "megamoe/error.h"

namespace megamoe {
namespace {

namespace fs = std::filesystem;

class TensorFile : public testing::Test {
 protected:
  TensorFile() : folder_(fs::path(testing::TempDir()) / ("tensor_file_" + name())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~TensorFile() override { fs::remove_all(folder_); }

  static std::string name() { return testing::UnitTest::GetInstance()->current_test_info()->name(); }
  std::string path(const std::string& file) const { return (folder_ / file).string(); }

  fs::path folder_;
};

TEST_F(TensorFile, what_is_written_is_read_back) {
  const std::vector<float> wide{1.5f, -2.0f, 0.0f, 3.25f, 5.0f, 6.0f};
  const std::vector<std::uint16_t> narrow{0x3F80, 0x4000};
  const std::vector<NamedTensor> tensors{{"b", {narrow.data(), DType::kBF16, {2}}},
                                         {"a", {wide.data(), DType::kF32, {2, 3}}},
                                         {"none", {nullptr, DType::kF32, {0, 3}}}};
  write_tensor_file(path("x.safetensors"), tensors);
  const HostTensor a = read_tensor(path("x.safetensors"), "a");
  EXPECT_EQ(a.dtype, DType::kF32);
  EXPECT_EQ(a.shape, (Shape{2, 3}));
  ASSERT_EQ(a.data.size(), 24u);
  EXPECT_EQ(std::memcmp(a.data.data(), wide.data(), 24), 0);
  EXPECT_EQ(std::memcmp(read_tensor(path("x.safetensors"), "b").data.data(), narrow.data(), 4), 0);
  EXPECT_TRUE(read_tensor(path("x.safetensors"), "none").data.empty());
}

TEST_F(TensorFile, a_file_is_replaced_whole_and_nothing_else_is_left) {
  const std::vector<float> first{1.0f};
  const std::vector<float> second{2.0f, 3.0f};
  const NamedTensor a{"x", {first.data(), DType::kF32, {1}}};
  const NamedTensor b{"x", {second.data(), DType::kF32, {2}}};
  write_tensor_file(path("x.safetensors"), {&a, 1});
  write_tensor_file(path("x.safetensors"), {&b, 1});
  EXPECT_EQ(read_tensor(path("x.safetensors"), "x").shape, (Shape{2}));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(TensorFile, a_missing_tensor_is_refused_with_the_names_there_are) {
  const std::vector<float> values{1.0f};
  const NamedTensor tensor{"output", {values.data(), DType::kF32, {1}}};
  write_tensor_file(path("x.safetensors"), {&tensor, 1});
  try {
    read_tensor(path("x.safetensors"), "input");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kBadFile);
    EXPECT_NE(std::string(error.what()).find("no tensor 'input', it has: output"), std::string::npos) << error.what();
  }
}

TEST_F(TensorFile, a_directory_that_is_not_there_is_refused) {
  const std::vector<float> values{1.0f};
  const NamedTensor tensor{"x", {values.data(), DType::kF32, {1}}};
  EXPECT_THROW(write_tensor_file(path("no/x.safetensors"), {&tensor, 1}), Error);
  EXPECT_THROW(write_tensor_file(path(""), {&tensor, 1}), Error);
  EXPECT_THROW(read_tensor(path("y.safetensors"), "x"), Error);
}

}  // namespace
}  // namespace megamoe
