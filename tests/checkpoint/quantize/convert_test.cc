#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "checkpoint/fabricate.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/model_files.h"
#include "megamoe/checkpoint.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"

namespace megamoe::test {
namespace {

RewriteOptions into(const std::string& dialect) {
  RewriteOptions options;
  options.dialect = dialect;
  return options;
}

std::string bytes_of(const ConstTensorView& view) {
  return {static_cast<const char*>(view.data), static_cast<std::size_t>(view.bytes())};
}

// Every value of `plain` is that of `quantised`, rounded to BF16.
void expect_rounded(const MatrixView& quantised, const MatrixView& plain) {
  ASSERT_EQ(plain.rows, quantised.rows);
  ASSERT_EQ(plain.cols, quantised.cols);
  for (std::int64_t r = 0; r < plain.rows; ++r)
    for (std::int64_t k = 0; k < plain.cols; ++k) {
      const auto packed = std::to_integer<std::uint8_t>(quantised.data[(r * plain.cols + k) / 2]);
      const auto sf = std::to_integer<std::uint8_t>(quantised.sf[(r * plain.cols + k) / 16]);
      const float value =
          nvfp4_value(k % 2 == 0 ? nvfp4_even_k(packed) : nvfp4_odd_k(packed), sf, quantised.global_scale);
      std::uint16_t bits = 0;
      std::memcpy(&bits, plain.data + 2 * (r * plain.cols + k), 2);
      ASSERT_EQ(bits, bf16_from_float(value)) << "row " << r << ", element " << k;
    }
}

TEST(convert, modelopt_to_compressed_tensors_and_back_is_the_same_model) {
  for (const std::string& type : fake_families())
    for (const bool input_scales : {false, true}) {
      const TempDir in, out;
      const FakeModel model = fake_quantised(type, "modelopt", input_scales);
      model.write(in.path());
      const RewriteReport there = convert(in.path(), out / "there", into("compressed-tensors"));
      convert(out / "there", out / "back", into("modelopt"));
      EXPECT_TRUE(there.notes.empty() || there.notes[0].pitfall != 1);
      EXPECT_TRUE(inspect(out / "there").problems.empty());
      EXPECT_TRUE(inspect(out / "back").problems.empty());
      EXPECT_EQ(inspect(out / "there").dialect, "compressed-tensors");
      const ModelFiles files = ModelFiles::open(out / "back");
      EXPECT_EQ(files.tensors().size(), model.tensors.size());
      for (const FakeTensor& tensor : model.tensors) {
        const ModelFiles::Tensor& got = files.tensor(tensor.name);
        EXPECT_EQ(got.view.shape, tensor.shape);
        EXPECT_EQ(bytes_of(got.view), tensor.bytes) << tensor.name;
      }
      const Json hf_quant = Json::parse(read_bytes(out / "back/hf_quant_config.json"));
      EXPECT_EQ(hf_quant["quantization"]["quant_algo"], input_scales ? "NVFP4" : "W4A16_NVFP4");
    }
}

TEST(convert, to_plain_gives_every_value_rounded_once) {
  for (const std::string dialect : {"modelopt", "compressed-tensors"})
    for (const std::string& type : fake_families()) {
      const TempDir in, out;
      const FakeModel model = fake_quantised(type, dialect, true);
      model.write(in.path());
      const RewriteReport report = convert(in.path(), out / "plain", into("plain"));
      const InspectReport seen = inspect(out / "plain");
      EXPECT_TRUE(seen.problems.empty()) << type;
      EXPECT_EQ(seen.dialect, "plain");
      EXPECT_EQ(seen.expert_bytes, report.output_expert_bytes);
      EXPECT_FALSE(std::filesystem::exists(out / "plain/hf_quant_config.json"));

      const Checkpoint before = Checkpoint::open(in.path()), after = Checkpoint::open(out / "plain");
      ASSERT_EQ(before.layers().size(), after.layers().size());
      for (const std::int64_t index : before.layers()) {
        const MoeLayer quantised = before.layer(index), plain = after.layer(index);
        EXPECT_EQ(plain.problem.weights, WeightFormat::kBf16);
        for (std::int64_t e = 0; e < quantised.problem.experts; ++e) {
          ExpertScratch a, b;
          const ExpertView from = quantised.experts->expert(e, a), to = plain.experts->expert(e, b);
          expect_rounded(from.gate, to.gate);
          expect_rounded(from.up, to.up);
          expect_rounded(from.down, to.down);
        }
      }
    }
}

TEST(convert, the_multiplier_a_reader_sees_is_kept_from_compressed_tensors) {
  const TempDir in, out;
  FakeModel model = fake_quantised("qwen3_moe", "compressed-tensors", true);
  const std::string name = model.expert(1, 1) + ".weight_global_scale";
  model.at(name).bytes = float_bytes(30000.123f);
  model.write(in.path());
  convert(in.path(), out / "m", into("modelopt"));
  const ModelFiles files = ModelFiles::open(out / "m");
  EXPECT_EQ(float_of(bytes_of(files.tensor(model.expert(1, 1) + ".weight_scale_2").view)), 1.0f / 30000.123f);
}

TEST(convert, a_multiplier_that_is_no_reciprocal_is_noted) {
  const TempDir in, out;
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  // 1 - 2^-24 lies between the reciprocals of 1 and of the next number.
  model.at(model.expert(0, 0) + ".weight_scale_2").bytes = float_bytes((1.0f - 0x1p-24f) * 0x1p-14f);
  model.write(in.path());
  const RewriteReport report = convert(in.path(), out / "c", into("compressed-tensors"));
  ASSERT_FALSE(report.notes.empty());
  EXPECT_NE(report.notes.back().sentence.find("1 scalars have no f32 reciprocal"), std::string::npos);
}

TEST(convert, all_quantised_modules_are_converted_not_only_experts) {
  const TempDir in, out;
  FakeModel model = fake_quantised("qwen3_moe", "modelopt");
  const std::string q = "model.layers.0.self_attn.q_proj";
  model.erase(q + ".weight");
  model.add({q + ".weight", DType::kU8, {kHidden, kHidden / 2}, std::string(kHidden * kHidden / 2, '\x21')});
  model.add(
      {q + ".weight_scale", DType::kF8E4M3, {kHidden, kHidden / 16}, std::string(kHidden * kHidden / 16, '\x38')});
  model.add({q + ".weight_scale_2", DType::kF32, {}, float_bytes(0x1p-12f)});
  model.write(in.path());
  convert(in.path(), out / "c", into("compressed-tensors"));
  const ModelFiles files = ModelFiles::open(out / "c");
  EXPECT_NE(files.find(q + ".weight_packed"), nullptr);
  EXPECT_EQ(files.find(q + ".weight"), nullptr);
  const Json ignored = Json::parse(read_bytes(out / "c/config.json"))["quantization_config"]["ignore"];
  EXPECT_EQ(std::count(ignored.begin(), ignored.end(), Json(q)), 0);
  EXPECT_EQ(std::count(ignored.begin(), ignored.end(), Json("model.layers.1.mlp.gate")), 1);
}

TEST(convert, wrong_jobs_are_refused) {
  const TempDir plain, quantised, out;
  fake_model("mixtral").write(plain.path());
  FakeModel model = fake_quantised("mixtral", "modelopt");
  model.write(quantised.path());
  const auto refused = [&](const std::string& from, const std::string& dialect) {
    return sentence_of([&] { convert(from, out / "x", into(dialect)); });
  };
  EXPECT_NE(refused(plain.path(), "modelopt").find("is not quantised"), std::string::npos);
  EXPECT_NE(refused(quantised.path(), "modelopt").find("is in the dialect modelopt already"), std::string::npos);
  (*model.hf_quant)["quantization"]["kv_cache_quant_algo"] = "FP8";
  model.write(quantised.path());
  EXPECT_NE(refused(quantised.path(), "compressed-tensors").find("KV cache"), std::string::npos);
  model = fake_quantised("mixtral", "modelopt");
  model.at(model.expert(0, 0) + ".weight_scale").bytes[0] = '\x7f';
  model.write(quantised.path());
  EXPECT_NE(refused(quantised.path(), "compressed-tensors").find("NaN at [0, 0]"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(out / "x"));
}

}  // namespace
}  // namespace megamoe::test
