#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "checkpoint/fabricate.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/model_files.h"
#include "megamoe/checkpoint.h"
#include "megamoe/quant.h"

namespace megamoe::test {
namespace {

QuantizeOptions options(const std::string& dialect, const std::string& recipe = "rne") {
  QuantizeOptions result;
  result.dialect = dialect;
  result.recipe = recipe;
  return result;
}

std::string bytes_of(const ConstTensorView& view) {
  return {static_cast<const char*>(view.data), static_cast<std::size_t>(view.bytes())};
}

// All files of two directories are the same.
void expect_same_files(const std::string& a, const std::string& b) {
  std::vector<std::string> names[2];
  for (int i = 0; i < 2; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(i == 0 ? a : b))
      if (!entry.path().filename().string().starts_with(".")) names[i].push_back(entry.path().filename());
  std::ranges::sort(names[0]);
  std::ranges::sort(names[1]);
  ASSERT_EQ(names[0], names[1]);
  for (const std::string& name : names[0])
    EXPECT_TRUE(read_bytes(a + "/" + name) == read_bytes(b + "/" + name)) << name;
}

FakeModel sharded(const std::string& type, int shards) {
  FakeModel model = fake_model(type);
  int at = 0;
  for (FakeTensor& tensor : model.tensors)
    tensor.shard =
        "model-0000" + std::to_string(at++ % shards + 1) + "-of-0000" + std::to_string(shards) + ".safetensors";
  return model;
}

TEST(quantize, every_family_into_every_dialect_is_clean) {
  for (const std::string& type : fake_families())
    for (const char* dialect : {"modelopt", "compressed-tensors"}) {
      const TempDir in, out;
      const FakeModel model = fake_model(type);
      model.write(in.path());
      const RewriteReport report = quantize(in.path(), out / "model", options(dialect));
      const InspectReport seen = inspect(out / "model");
      EXPECT_TRUE(seen.problems.empty()) << type << " " << dialect << ": " << seen.problems[0].to_string();
      EXPECT_TRUE(seen.notes.empty()) << seen.notes[0].to_string();
      EXPECT_EQ(seen.dialect, dialect);
      EXPECT_EQ(report.matrices, kExperts * 3 * static_cast<std::int64_t>(seen.layers.size()));
      EXPECT_EQ(report.output_bytes, seen.bytes);
      EXPECT_EQ(report.output_expert_bytes, seen.expert_bytes);
      for (const RewriteReport::Layer& layer : report.layers)
        for (const MatrixError& error : layer.error) {
          EXPECT_GT(error.sqnr_db, 18.0);
          EXPECT_LT(error.sqnr_db, 26.0);
        }
    }
}

TEST(quantize, what_is_not_quantised_keeps_its_bytes) {
  const TempDir in, out;
  const FakeModel model = sharded("deepseek_v3", 3);
  model.write(in.path());
  write_bytes(in / "tokenizer.json", "{\"tokens\": [1, 2]}");
  write_bytes(in / "pytorch_model.bin", "weights");
  const RewriteReport report = quantize(in.path(), out / "model", options("modelopt"));
  const ModelFiles files = ModelFiles::open(out / "model");
  EXPECT_EQ(files.shards().size(), 3u);
  std::int64_t copied = 0;
  for (const FakeTensor& tensor : model.tensors) {
    if (tensor.name.find(".experts.") != std::string::npos) continue;
    ++copied;
    const ModelFiles::Tensor& got = files.tensor(tensor.name);
    EXPECT_EQ(got.view.dtype, tensor.dtype);
    EXPECT_EQ(got.view.shape, tensor.shape);
    EXPECT_EQ(bytes_of(got.view), tensor.bytes) << tensor.name;
    EXPECT_EQ(files.shard_name(got.shard), tensor.shard);
  }
  EXPECT_EQ(report.tensors_copied, copied);
  EXPECT_EQ(read_bytes(out / "model/tokenizer.json"), "{\"tokens\": [1, 2]}");
  EXPECT_FALSE(std::filesystem::exists(out / "model/pytorch_model.bin"));
  // The config says what it said, and one thing more.
  Json config = Json::parse(read_bytes(out / "model/config.json"));
  EXPECT_EQ(config["quantization_config"]["quant_algo"], "W4A16_NVFP4");
  config.erase("quantization_config");
  EXPECT_EQ(config, model.config);
  EXPECT_EQ(Json::parse(read_bytes(out / "model/hf_quant_config.json"))["quantization"]["group_size"], 16);
}

TEST(quantize, codes_are_those_of_the_recipe_under_a_scale_shared_by_gate_and_up) {
  const TempDir in, out;
  FakeModel model = fake_model("qwen3_moe");
  // Each of the two has the largest weight of its pair in some expert: 0x4000 is 2 in BF16.
  model.at(model.expert(1, 0) + ".weight").bytes.replace(0, 2, "\x00\x40", 2);
  model.at(model.expert(2, 1) + ".weight").bytes.replace(0, 2, "\x00\x40", 2);
  model.write(in.path());
  for (const char* name : {"rne", "bridge", "four_six", "mse"}) {
    QuantRecipe recipe{};
    ASSERT_TRUE(parse_quant_recipe(name, &recipe));
    quantize(in.path(), out / name, options("modelopt", name));
    const ModelFiles files = ModelFiles::open(out / name);
    for (int expert = 0; expert < kExperts; ++expert) {
      const auto view = [&](int which) {
        const FakeTensor& tensor = model.at(model.expert(expert, which) + ".weight");
        return ConstTensorView{tensor.bytes.data(), tensor.dtype, tensor.shape};
      };
      const float amax = std::max(nvfp4_amax(recipe, view(0)), nvfp4_amax(recipe, view(1)));
      const float exact = nvfp4_global_scale(recipe, amax);
      for (int which = 0; which < 2; ++which) {
        const float scale = float_of(bytes_of(files.tensor(model.expert(expert, which) + ".weight_scale_2").view));
        EXPECT_LE(std::abs(scale - exact), recipe == QuantRecipe::kBridge ? 0.0f : exact * 0x1p-23f) << name;
        const Nvfp4Tensor want = quantize_nvfp4(view(which), {recipe, GlobalScaleMode::kStatic, scale});
        EXPECT_EQ(bytes_of(files.tensor(model.expert(expert, which) + ".weight").view),
                  std::string(want.codes.begin(), want.codes.end()));
        EXPECT_EQ(bytes_of(files.tensor(model.expert(expert, which) + ".weight_scale").view),
                  std::string(want.sf.begin(), want.sf.end()));
      }
    }
  }
}

TEST(quantize, dialects_differ_in_names_only) {
  const TempDir in, out;
  sharded("glm4_moe", 2).write(in.path());
  quantize(in.path(), out / "modelopt", options("modelopt"));
  quantize(in.path(), out / "compressed", options("compressed-tensors"));
  RewriteOptions to;
  to.dialect = "compressed-tensors";
  convert(out / "modelopt", out / "converted", to);
  expect_same_files(out / "compressed", out / "converted");
}

TEST(quantize, weights_that_are_not_finite_are_refused_by_name) {
  for (const char* bits : {"\xc0\x7f", "\x80\x7f", "\x80\xff"}) {
    const TempDir in, out;
    FakeModel model = fake_model("qwen3_moe");
    const std::string name = model.expert(6, 2) + ".weight";
    model.at(name).bytes.replace(2 * (5 * kInter + 7), 2, bits);
    model.write(in.path());
    const std::string sentence = sentence_of([&] { quantize(in.path(), out / "model", options("modelopt")); });
    EXPECT_NE(sentence.find(name + ": element [5, 7] is "), std::string::npos) << sentence;
    EXPECT_FALSE(std::filesystem::exists(out / "model/config.json"));
  }
}

TEST(quantize, wrong_jobs_are_refused) {
  const TempDir in, out;
  fake_model("mixtral").write(in.path());
  const std::string before = read_bytes(in / "model.safetensors");
  const auto refused = [&](const std::string& to, const QuantizeOptions& how) {
    return sentence_of([&] { quantize(in.path(), to, how); });
  };
  EXPECT_NE(refused(in.path(), options("modelopt")), "");
  EXPECT_NE(refused(in / "inside", options("modelopt")), "");
  EXPECT_EQ(refused(out / "a", options("gguf")), "dialect: asked gguf, accepted: modelopt, compressed-tensors");
  EXPECT_EQ(refused(out / "a", options("plain")), "dialect: asked plain, accepted: modelopt, compressed-tensors");
  EXPECT_EQ(refused(out / "a", options("modelopt", "best")),
            "recipe: asked best, accepted: rne, bridge, four_six, mse");
  quantize(in.path(), out / "a", options("modelopt"));
  EXPECT_NE(refused(out / "a", options("modelopt")), "");
  EXPECT_NE(sentence_of([&] { quantize(out / "a", out / "b", options("modelopt")); }).find("is quantised already"),
            std::string::npos);
  EXPECT_EQ(read_bytes(in / "model.safetensors"), before);
}

TEST(quantize, progress_reaches_the_whole) {
  const TempDir in, out;
  sharded("kimi_k2", 2).write(in.path());
  QuantizeOptions how = options("modelopt");
  std::uint64_t last = 0, total = 0;
  how.progress = [&](std::uint64_t done, std::uint64_t all, std::string_view) {
    EXPECT_GE(done, last);
    last = done;
    total = all;
  };
  const RewriteReport report = quantize(in.path(), out / "model", how);
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, report.input_bytes);
}

TEST(quantize, a_killed_run_is_resumed_to_the_same_bytes) {
  const TempDir in, out;
  sharded("deepseek_v3", 4).write(in.path());
  write_bytes(in / "tokenizer.json", "{}");
  const RewriteReport whole = quantize(in.path(), out / "whole", options("modelopt", "mse"));
  std::uint64_t calls = 0;
  QuantizeOptions counting = options("modelopt", "mse");
  counting.progress = [&](std::uint64_t, std::uint64_t, std::string_view) { ++calls; };
  quantize(in.path(), out / "counted", counting);

  for (std::uint64_t stop = 1; stop <= calls; stop += calls / 8) {
    const std::string target = out / ("killed" + std::to_string(stop));
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::execl(MEGAMOE_QUANTIZE_JOB, MEGAMOE_QUANTIZE_JOB, in.path().c_str(), target.c_str(), "mse",
              std::to_string(stop).c_str(), nullptr);
      ::_exit(127);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_FALSE(std::filesystem::exists(target + "/config.json"));

    QuantizeOptions resuming = options("modelopt", "mse");
    resuming.resume = true;
    const RewriteReport report = quantize(in.path(), target, resuming);
    expect_same_files(out / "whole", target);
    ASSERT_EQ(report.layers.size(), whole.layers.size());
    for (std::size_t which = 0; which < 3; ++which)
      EXPECT_EQ(report.layers[0].error[which].sqnr_db, whole.layers[0].error[which].sqnr_db);
  }
}

// The next shard's file is made while one is written: it goes, too.
TEST(quantize, a_failed_run_leaves_no_temporary_file) {
  for (const int stop : {1, 20, 40}) {
    const TempDir in, out;
    sharded("mixtral", 3).write(in.path());
    QuantizeOptions failing = options("modelopt");
    int calls = 0;
    failing.progress = [&](std::uint64_t, std::uint64_t, std::string_view) {
      if (++calls == stop) throw Error(Code::kInternal, "stopped");
    };
    EXPECT_EQ(sentence_of([&] { quantize(in.path(), out / "model", failing); }), "stopped");
    for (const auto& entry : std::filesystem::recursive_directory_iterator(out.path()))
      EXPECT_EQ(entry.path().filename().string().find(".tmp."), std::string::npos) << entry.path();
  }
}

TEST(quantize, a_run_is_not_resumed_with_other_options) {
  const TempDir in, out;
  sharded("mixtral", 2).write(in.path());
  QuantizeOptions failing = options("modelopt");
  int calls = 0;
  failing.progress = [&](std::uint64_t, std::uint64_t, std::string_view) {
    if (++calls == 40) throw Error(Code::kInternal, "stopped");
  };
  EXPECT_EQ(sentence_of([&] { quantize(in.path(), out / "model", failing); }), "stopped");
  QuantizeOptions other = options("modelopt", "mse");
  other.resume = true;
  EXPECT_NE(sentence_of([&] { quantize(in.path(), out / "model", other); }), "");
  other.recipe = "rne";
  EXPECT_EQ(sentence_of([&] { quantize(in.path(), out / "model", other); }), "");
}

}  // namespace
}  // namespace megamoe::test
