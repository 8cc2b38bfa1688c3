// Prepared weights through a file: the same results, and one sentence for every file that is not what it should be.
#include "megamoe/prepared_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>

#include "checkpoint/files/fault_ops.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/prepared_file.h"
#include "megamoe/error.h"
#include "support/each_backend.h"
#include "support/run_case.h"

namespace megamoe::test {
namespace {

// ---- The way through a file -----------------------------------------------------------------------------------------

class prepared_file : public ::testing::TestWithParam<const char*> {};

TEST_P(prepared_file, loaded_weights_give_the_same_bits) {
  const Case c = make_case(parse_test_problem(GetParam()));
  for_each_backend(
      c.test.problem,
      [&](std::string_view backend) {
        if (backend == "reference") return;
        const TempDir directory;
        const std::string path = directory / "layer.prepared";
        const auto prepared = prepare(c.test.problem, c.weights, {.backend = std::string(backend)});
        save_prepared(*prepared, path, {.source = "made here"});
        auto loaded = load_prepared(path, {.backend = std::string(backend), .problem = c.test.problem});
        ASSERT_EQ(loaded->backend(), backend);
        ASSERT_EQ(loaded->problem(), c.test.problem);
        EXPECT_EQ(loaded->bytes(), prepared->bytes());
        std::filesystem::remove(path);  // what is mapped stays
        const RunOptions options{.f32 = true, .intermediate = true};
        const Result want = Layer(prepared, c.test.tokens).run(c, options);
        const Result got = Layer(loaded, c.test.tokens).run(c, options);
        ASSERT_EQ(got.f32.size(), want.f32.size());
        EXPECT_EQ(std::memcmp(got.f32.data(), want.f32.data(), want.f32.size() * sizeof(float)), 0);
        EXPECT_EQ(got.intermediate.routed.bf16, want.intermediate.routed.bf16);
        EXPECT_EQ(got.intermediate.routed.codes, want.intermediate.routed.codes);
        EXPECT_EQ(got.intermediate.routed.int8, want.intermediate.routed.int8);
        // Saved once more, it is the same file.
        save_prepared(*prepared, directory / "a", {.source = "s"});
        save_prepared(*loaded, directory / "b", {.source = "s"});
        EXPECT_TRUE(read_bytes(directory / "a") == read_bytes(directory / "b"));
      },
      CpuTargets::kBest);
}

INSTANTIATE_TEST_SUITE_P(problems, prepared_file,
                         ::testing::Values("t=9 h=64 i=48 e=4 k=2 w=nvfp4 a=bf16",
                                           "t=9 h=80 i=144 e=5 k=2 w=nvfp4 a=nvfp4 limit=7 topk=before",
                                           "t=9 h=64 i=48 e=4 k=2 w=nvfp4 a=int8 bias act=oai",
                                           "t=9 h=64 i=48 e=4 k=2 w=bf16 a=bf16 shared=32:bf16:gated",
                                           "t=9 h=144 i=80 e=4 k=2 w=nvfp4 a=bf16 bias shared=48:nvfp4:gated",
                                           "t=9 h=64 i=48 e=4 k=2 w=nvfp4 a=nvfp4 scale=static"));

// ---- Refusals -------------------------------------------------------------------------------------------------------

// A file of the backend that every machine with these tests has, or nothing where the build left it out.
class prepared_cpu_file : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const Candidate& candidate : candidates(case_.test.problem))
      if (candidate.backend == "cpu" && !candidate.refusal.empty()) GTEST_SKIP() << candidate.refusal;
    weights_ = prepare(case_.test.problem, case_.weights, {.backend = "cpu"});
    save_prepared(*weights_, path(), {.source = "digest 1"});
    bytes_ = read_bytes(path());
  }

  std::string path() const { return directory_ / "layer.prepared"; }

  // What load says of the file with `bytes`; the file's path left out.
  std::string refusal_of(std::string_view bytes, const LoadPreparedOptions& options = {}) const {
    write_bytes(directory_ / "bad", bytes);
    std::string sentence = sentence_of([&] { load_prepared(directory_ / "bad", options); });
    const std::size_t at = sentence.find(directory_ / "bad");
    return at == std::string::npos ? sentence : sentence.erase(at, (directory_ / "bad").size());
  }

  // The file with its header's JSON changed; the prefix says its new length.
  std::string with_json(std::string_view from, std::string_view to) const {
    std::string json = bytes_.substr(kPreparedPrefixBytes, json_bytes());
    const std::size_t at = json.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    json.replace(at, from.size(), to);
    std::string bytes = bytes_;
    const auto size = static_cast<std::uint32_t>(json.size());
    std::memcpy(bytes.data() + kPreparedMagic.size() + 4, &size, sizeof size);
    bytes.replace(kPreparedPrefixBytes, json.size(), json);
    return bytes;
  }

  std::size_t json_bytes() const {
    std::uint32_t size = 0;
    std::memcpy(&size, bytes_.data() + kPreparedMagic.size() + 4, sizeof size);
    return size;
  }

  TempDir directory_;
  Case case_ = make_case(parse_test_problem("t=3 h=64 i=48 e=2 k=1 w=nvfp4 a=bf16"));
  std::shared_ptr<const PreparedWeights> weights_;
  std::string bytes_;
};

TEST_F(prepared_cpu_file, another_kind_of_file) {
  const std::string want =
      ": is no file of prepared weights: it does not begin with 'megamoe prepared' and two numbers";
  EXPECT_EQ(refusal_of(""), want);
  EXPECT_EQ(refusal_of(safetensors_bytes("{}", 100)), want);
  EXPECT_NE(sentence_of([&] { load_prepared(directory_ / "missing"); }), "");
  EXPECT_NE(sentence_of([&] { load_prepared(directory_.path()); }), "");
}

TEST_F(prepared_cpu_file, another_format_version) {
  std::string bytes = bytes_;
  bytes[kPreparedMagic.size()] = 2;
  EXPECT_EQ(refusal_of(bytes), ": has format 2 of prepared weights, accepted: 1");
}

TEST_F(prepared_cpu_file, another_backend_or_layout) {
  EXPECT_EQ(refusal_of(with_json("\"backend\": \"cpu\"", "\"backend\": \"tpu\"")),
            ": is prepared for backend 'tpu', which this version does not have");
  EXPECT_EQ(refusal_of(bytes_, {.backend = "cuda"}), ": asked for backend 'cuda', it is prepared for 'cpu'");
  EXPECT_EQ(refusal_of(with_json("\"backend\": \"cpu\"", "\"backend\": \"reference\"")),
            ": backend reference keeps no prepared form");
  EXPECT_EQ(refusal_of(with_json("\"layout\": 2", "\"layout\": 4000000000")),
            ": has layout 4000000000 of backend cpu, accepted: 2; prepare the weights again");
}

TEST_F(prepared_cpu_file, a_backend_that_is_not_here) {
  std::string reason;
  for (const Candidate& candidate : candidates(case_.test.problem))
    if (candidate.backend == "cuda/sm90") reason = candidate.refusal;
  if (reason.empty()) GTEST_SKIP() << "this machine has an H100";
  EXPECT_EQ(refusal_of(with_json("\"backend\": \"cpu\"", "\"backend\": \"cuda/sm90\"")),
            ": is prepared for backend cuda/sm90: " + reason);
}

TEST_F(prepared_cpu_file, another_problem_or_source_than_asked) {
  Problem other = case_.test.problem;
  other.top_k = 2;
  EXPECT_EQ(refusal_of(bytes_, {.problem = other}),
            ": asked for h=64 i=48 e=2 k=2 w=nvfp4 a=bf16, it holds h=64 i=48 e=2 k=1 w=nvfp4 a=bf16");
  EXPECT_EQ(refusal_of(bytes_, {.source = "digest 2"}),
            ": asked for weights made of 'digest 2', it holds those of 'digest 1'");
  EXPECT_EQ(refusal_of(bytes_, {.problem = case_.test.problem, .source = "digest 1"}), "");
}

TEST_F(prepared_cpu_file, a_problem_that_its_sections_do_not_fit) {
  EXPECT_EQ(refusal_of(with_json("e=2", "e=3")),
            ": section 'routed.panels': found 11520 bytes, this problem has 17280");
  EXPECT_EQ(refusal_of(with_json("e=2", "e=0")), ": header: problem: experts: asked 0, accepted: 1 to 65536");
  EXPECT_EQ(refusal_of(with_json("a=bf16", "a=fp7")).rfind(": header: problem: ", 0), 0u);
  EXPECT_EQ(refusal_of(with_json("a=bf16", "a=bf16 bias")), ": section 'routed.gate_bias' is missing");
}

TEST_F(prepared_cpu_file, sections_outside_the_file) {
  EXPECT_NE(refusal_of(with_json("\"offset\": ", "\"offset\": 999")).find("section 'routed.panels'"),
            std::string::npos);
  EXPECT_NE(refusal_of(with_json("\"bytes\": ", "\"bytes\": 1844674407370")).find("section 'routed.panels'"),
            std::string::npos);
  EXPECT_NE(refusal_of(with_json("\"file_bytes\": ", "\"file_bytes\": 1")).find("its header says"), std::string::npos);
}

TEST_F(prepared_cpu_file, truncated_at_every_byte_of_the_header_and_behind) {
  const std::size_t header = kPreparedPrefixBytes + json_bytes();
  for (std::size_t size = 0; size <= header; ++size)
    ASSERT_NE(refusal_of(std::string_view(bytes_).substr(0, size)), "") << size << " bytes";
  for (const std::size_t size : {bytes_.size() / 2, bytes_.size() - 1})
    ASSERT_NE(refusal_of(std::string_view(bytes_).substr(0, size)).find("its header says"), std::string::npos);
  EXPECT_NE(refusal_of(bytes_ + "x").find("its header says"), std::string::npos);
}

// Whatever a byte of the header becomes, load refuses or gives weights; it does not read where nothing is.
TEST_F(prepared_cpu_file, any_byte_of_the_header_may_be_wrong) {
  const std::size_t header = kPreparedPrefixBytes + json_bytes();
  int refused = 0;
  for (std::size_t at = 0; at < header; ++at)
    for (const char wrong : {'\0', '\x7f', '9', '"', '}'}) {
      if (bytes_[at] == wrong) continue;
      std::string bytes = bytes_;
      bytes[at] = wrong;
      refused += !refusal_of(bytes).empty();
    }
  EXPECT_GT(refused, static_cast<int>(header));
}

// ---- Writing --------------------------------------------------------------------------------------------------------

TEST_F(prepared_cpu_file, an_existing_file_is_replaced_only_when_asked) {
  EXPECT_NE(sentence_of([&] { save_prepared(*weights_, path()); }), "");
  EXPECT_TRUE(read_bytes(path()) == bytes_);
  save_prepared(*weights_, path(), {.source = "digest 2", .replace = true});
  EXPECT_NO_THROW(load_prepared(path(), {.source = "digest 2"}));
}

TEST_F(prepared_cpu_file, what_save_does_not_take) {
  EXPECT_NE(sentence_of([&] { save_prepared(*weights_, ""); }), "");
  EXPECT_NE(sentence_of([&] { save_prepared(*weights_, directory_ / "no/such/folder"); }), "");
  EXPECT_NE(sentence_of([&] { save_prepared(*weights_, directory_ / "c", {.source = "\xff"}); }), "");
  EXPECT_NE(sentence_of([&] { save_prepared(*weights_, directory_ / "c", {.source = std::string(4097, 'x')}); }), "");
  const auto reference = prepare(case_.test.problem, case_.weights, {.backend = "reference"});
  EXPECT_EQ(sentence_of([&] { save_prepared(*reference, directory_ / "c"); }),
            "prepared file: backend reference keeps no prepared form of its own, accepted: weights of cpu and cuda");
  EXPECT_FALSE(std::filesystem::exists(directory_ / "c"));
}

std::map<std::string, std::string> files_of(const std::string& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    files[entry.path().filename().string()] = read_bytes(entry.path().string());
  return files;
}

TEST_F(prepared_cpu_file, no_partial_file_whatever_call_fails) {
  const auto before = files_of(directory_.path());
  FaultOps count;
  save_prepared(*weights_, path(), {.source = "digest 2", .replace = true}, count);
  const auto after = files_of(directory_.path());
  ASSERT_NE(before, after);
  for (const Fault fault : {Fault::kNoSpace, Fault::kIo, Fault::kShortWrite, Fault::kInterrupted})
    for (int at = 1; at <= count.calls(); ++at) {
      write_bytes(path(), before.begin()->second);
      FaultOps ops(fault, at);
      const std::string sentence =
          sentence_of([&] { save_prepared(*weights_, path(), {.source = "digest 2", .replace = true}, ops); });
      const auto found = files_of(directory_.path());
      if (fault == Fault::kShortWrite || fault == Fault::kInterrupted) {
        EXPECT_EQ(sentence, "") << "call " << at;
        EXPECT_EQ(found, after) << "call " << at;
      } else {
        // The last call syncs the directory: the file is whole then.
        EXPECT_NE(sentence, "") << "call " << at;
        EXPECT_EQ(found, at == count.calls() ? after : before) << "call " << at << ": " << sentence;
      }
    }
}

}  // namespace
}  // namespace megamoe::test
