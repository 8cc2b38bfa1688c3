// Where an output may go, what may be resumed, and what the writer refuses to write.
#include "checkpoint/output_directory.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "checkpoint/files/fault_ops.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/files/write_job.h"
#include "checkpoint/safetensors_writer.h"

namespace megamoe {
namespace {

using test::run_write_job;
using test::sentence_of;
using test::snapshot;
using test::TempDir;

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

class OutputPlace : public testing::Test {
 protected:
  void SetUp() override { test::write_source_model(input()); }
  std::string input() const { return dir_ / "input"; }
  std::string output() const { return dir_ / "output"; }
  std::string refusal(const std::string& output, ExistingOutput existing = ExistingOutput::kRefuse,
                      const std::string& options = "copy") {
    const auto before = snapshot(input());
    const std::string sentence =
        sentence_of([&] { run_write_job(input(), output, existing, system_file_ops(), options); });
    EXPECT_EQ(snapshot(input()), before);
    return sentence;
  }
  // An output whose run ended behind the first shard.
  void interrupt() {
    test::FaultOps counting;
    run_write_job(input(), dir_ / "count", ExistingOutput::kRefuse, counting);
    for (int at = counting.calls() / 2; !std::filesystem::exists(output() + "/model-00001-of-00002.safetensors");
         ++at) {
      std::filesystem::remove_all(output());
      test::FaultOps ops(test::Fault::kIo, at);
      ASSERT_NE(sentence_of([&] { run_write_job(input(), output(), ExistingOutput::kRefuse, ops); }), "");
    }
  }

  TempDir dir_;
};

TEST_F(OutputPlace, a_new_output_is_a_readable_model_and_nothing_else) {
  EXPECT_EQ(refusal(output()), "");
  const ModelFiles model = ModelFiles::open(output());
  EXPECT_EQ(model.tensors().size(), 8u);
  EXPECT_TRUE(model.notes().empty());
  EXPECT_EQ(snapshot(output()).size(), 5u);
  const auto files = snapshot(output());
  EXPECT_EQ(files.at("model-00001-of-00002.safetensors"), snapshot(input()).at("model-00001-of-00002.safetensors"));
}

TEST_F(OutputPlace, new_files_obey_the_umask) {
  const mode_t before = ::umask(027);
  EXPECT_EQ(refusal(output()), "");
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat((output() + "/model-00001-of-00002.safetensors").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST_F(OutputPlace, the_input_is_refused_under_every_name) {
  ASSERT_EQ(::symlink("input", (dir_ / "alias").c_str()), 0);
  std::filesystem::create_directory(dir_ / "input/sub");
  for (const auto& existing : {ExistingOutput::kRefuse, ExistingOutput::kResume, ExistingOutput::kOverwrite})
    for (const char* path :
         {"input", "input/", "alias", "./input", "input/../input", "input/sub", "input/new", "alias/new"})
      EXPECT_CONTAINS(refusal(dir_ / path, existing), "is, contains or lies in the input") << path;
  EXPECT_CONTAINS(refusal(dir_.path()), "is, contains or lies in the input");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "input/new"));
}

TEST_F(OutputPlace, a_path_must_end_in_a_name_below_a_directory) {
  for (const char* path : {"", "/", ".", "..", "a/.."})
    EXPECT_CONTAINS(refusal(path), "accepted: one that ends in a directory's name");
  EXPECT_CONTAINS(refusal(dir_ / "none/output"), "cannot open the output's parent: No such file or directory");
  test::write_bytes(dir_ / "file", "x");
  EXPECT_CONTAINS(refusal(dir_ / "file"), "file: cannot open as a directory: Not a directory");
}

TEST_F(OutputPlace, files_of_others_are_never_touched) {
  std::filesystem::create_directory(output());
  test::write_bytes(output() + "/thesis.tex", "years of work");
  const auto before = snapshot(output());
  EXPECT_CONTAINS(refusal(output()), "is not empty");
  EXPECT_CONTAINS(refusal(output(), ExistingOutput::kResume), "holds files but no interrupted run");
  EXPECT_CONTAINS(refusal(output(), ExistingOutput::kOverwrite), "asked to overwrite, but it has no config.json");
  test::write_bytes(output() + "/config.json", "{}");
  std::filesystem::create_directory(output() + "/photos");
  EXPECT_CONTAINS(refusal(output(), ExistingOutput::kOverwrite), "asked to overwrite, but it has subdirectories");
  std::filesystem::remove(output() + "/photos");
  std::filesystem::remove(output() + "/config.json");
  EXPECT_EQ(snapshot(output()), before);
}

TEST_F(OutputPlace, overwriting_replaces_the_whole_model) {
  test::write_source_model(output(), 9);
  test::write_bytes(output() + "/model-00003-of-00003.safetensors", "stale");
  EXPECT_CONTAINS(refusal(output()), "is not empty");
  EXPECT_EQ(refusal(output(), ExistingOutput::kOverwrite), "");
  run_write_job(input(), dir_ / "fresh", ExistingOutput::kRefuse);
  EXPECT_EQ(snapshot(output()), snapshot(dir_ / "fresh"));
  EXPECT_FALSE(std::filesystem::exists(dir_ / ".output.megamoe-new"));
}

TEST_F(OutputPlace, two_writers_exclude_each_other) {
  const ModelFiles source = ModelFiles::open(input());
  const OutputDirectory first(output(), source, ExistingOutput::kRefuse, "copy", "write_job 1");
  EXPECT_CONTAINS(refusal(output(), ExistingOutput::kResume), "another process is writing there");
}

TEST_F(OutputPlace, an_interrupted_run_must_be_resumed_as_it_was) {
  interrupt();
  const auto before = snapshot(output());
  EXPECT_CONTAINS(refusal(output()), "holds an interrupted run");
  EXPECT_CONTAINS(refusal(output(), ExistingOutput::kResume, "other"),
                  "the interrupted run had options 'copy', this one has 'other'");
  const std::string config = test::read_bytes(input() + "/config.json");
  test::write_bytes(input() + "/config.json", "{}");
  EXPECT_CONTAINS(refusal(output(), ExistingOutput::kResume), "the input is not the one of the interrupted run");
  test::write_bytes(input() + "/config.json", config);
  // The same headers with other values: noticed before a finished shard is taken over.
  const std::string shard = input() + "/model-00001-of-00002.safetensors";
  const std::string good = test::read_bytes(shard);
  std::string changed = good;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  test::write_bytes(shard, changed);
  EXPECT_CONTAINS(refusal(output(), ExistingOutput::kResume), "have changed since the interrupted run");
  test::write_bytes(shard, good);
  EXPECT_EQ(snapshot(output()).at("model-00001-of-00002.safetensors"), before.at("model-00001-of-00002.safetensors"));
  EXPECT_EQ(refusal(output(), ExistingOutput::kResume), "");
}

TEST_F(OutputPlace, a_finished_shard_is_taken_over_without_writing_it_again) {
  interrupt();
  const std::string shard = output() + "/model-00001-of-00002.safetensors";
  struct stat before {
  }, after{};
  ASSERT_EQ(::stat(shard.c_str(), &before), 0);
  EXPECT_EQ(refusal(output(), ExistingOutput::kResume), "");
  ASSERT_EQ(::stat(shard.c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
}

TEST_F(OutputPlace, a_damaged_finished_shard_is_written_again) {
  interrupt();
  const std::string shard = output() + "/model-00001-of-00002.safetensors";
  const std::string good = test::read_bytes(shard);
  for (const std::string& damaged : {good.substr(0, good.size() - 1) + "\x7f", good.substr(0, 20), std::string()}) {
    test::write_bytes(shard, damaged);
    const TempDir copy;
    std::filesystem::copy(output(), copy / "output");
    EXPECT_EQ(refusal(copy / "output", ExistingOutput::kResume), "");
    EXPECT_EQ(test::read_bytes(copy / "output/model-00001-of-00002.safetensors"), good);
  }
}

TEST_F(OutputPlace, a_damaged_journal_is_refused) {
  interrupt();
  const std::string path = output() + "/.megamoe-journal";
  const std::string good = test::read_bytes(path);
  for (const std::string& damaged :
       {std::string(), std::string("{}\n"), std::string("not json\n"), good.substr(0, good.size() - 1),
        good + "{\"file\":1}\n", "{\"journal\":2}\n" + good}) {
    test::write_bytes(path, damaged);
    EXPECT_CONTAINS(refusal(output(), ExistingOutput::kResume), path + ": ");
  }
}

TEST_F(OutputPlace, room_is_checked_before_work) {
  const ModelFiles source = ModelFiles::open(input());
  const OutputDirectory out(output(), source, ExistingOutput::kRefuse, "copy", "write_job 1");
  EXPECT_EQ(sentence_of([&] { out.require_space(1); }), "");
  EXPECT_CONTAINS(sentence_of([&] { out.require_space(std::uint64_t{1} << 60); }),
                  "needs 1152921504606846976 bytes, the file system has");
}

class WriterPlan : public OutputPlace {
 protected:
  void SetUp() override {
    OutputPlace::SetUp();
    source_.emplace(ModelFiles::open(input()));
    out_.emplace(output(), *source_, ExistingOutput::kRefuse, "copy", "write_job 1");
  }
  std::optional<ModelFiles> source_;
  std::optional<OutputDirectory> out_;
};

TEST_F(WriterPlan, layout_is_aligned_sorted_and_independent_of_the_order_given) {
  const std::vector<TensorSpec> specs = {{"b", DType::kU8, {3}},   {"a", DType::kU8, {2}}, {"z", DType::kF64, {1}},
                                         {"h", DType::kBF16, {5}}, {"s", DType::kF32, {}}, {"q", DType::kF4, {2, 2}}};
  const SafetensorsLayout layout = layout_safetensors(specs, {{"format", "pt"}}, "f");
  std::string order;
  for (const TensorInfo& tensor : layout.tensors) order += tensor.name;
  EXPECT_EQ(order, "zshabq");
  EXPECT_EQ(layout.prefix.size() % 8, 0u);
  for (const TensorInfo& tensor : layout.tensors)
    EXPECT_EQ(tensor.begin % std::max(1u, static_cast<unsigned>(dtype_bits(tensor.dtype)) / 8), 0u) << tensor.name;
  EXPECT_EQ(layout_safetensors({specs.rbegin(), specs.rend()}, {{"format", "pt"}}, "f").prefix, layout.prefix);
}

TEST_F(WriterPlan, plans_that_no_strict_reader_would_take_are_refused) {
  const auto plan = [&](std::vector<TensorSpec> specs) {
    return sentence_of([&] { SafetensorsWriter(*out_, "m.safetensors", specs); });
  };
  EXPECT_CONTAINS(plan({{"a", DType::kU8, {1}}, {"a", DType::kF32, {1}}}), "tensor 'a': duplicate key");
  EXPECT_CONTAINS(plan({{"a\n", DType::kU8, {1}}}), "control character");
  EXPECT_CONTAINS(plan({{"a\xff", DType::kU8, {1}}}), "accepted: valid UTF-8");
  EXPECT_CONTAINS(plan({{"a", DType::kF4, {3}}}), "accepted: whole bytes");
  EXPECT_CONTAINS(plan({{"__metadata__", DType::kU8, {1}}}), "__metadata__: duplicate key");
  EXPECT_FALSE(std::filesystem::exists(output() + "/m.safetensors"));
}

TEST_F(WriterPlan, tensors_must_come_as_planned) {
  SafetensorsWriter writer(*out_, "m.safetensors", {{"a", DType::kU8, {4}}});
  const std::array<std::byte, 5> bytes{};
  EXPECT_CONTAINS(sentence_of([&] { writer.append("b", bytes); }), "tensor 'b', which was not planned");
  EXPECT_CONTAINS(sentence_of([&] { writer.append("a", bytes); }), "asked to write 5 bytes, accepted: 4 more");
  EXPECT_CONTAINS(sentence_of([&] { writer.write("a", {bytes.data(), DType::kI8, {4}}); }), "[4] I8, planned [4] U8");
  writer.append("a", std::span(bytes).first(3));
  EXPECT_CONTAINS(sentence_of([&] { writer.finish({}); }), "tensor 'a': has 3 bytes, planned 4");
}

TEST_F(WriterPlan, an_abandoned_file_leaves_nothing) {
  { const SafetensorsWriter writer(*out_, "m.safetensors", {{"a", DType::kU8, {4}}}); }
  EXPECT_EQ(snapshot(output()).size(), 2u);  // lock and journal
}

// A disk that stores other bytes than it was given.
class LyingOps : public FileOps {
 public:
  ssize_t write_at(int fd, const void* data, std::size_t bytes, off_t offset) override {
    std::string copy(static_cast<const char*>(data), bytes);
    if (bytes == 2400) copy[1000] = static_cast<char>(copy[1000] ^ 4);
    return FileOps::write_at(fd, copy.data(), bytes, offset);
  }
};

TEST_F(OutputPlace, one_wrong_bit_on_the_disk_is_noticed_before_the_file_has_its_name) {
  const ModelFiles source = ModelFiles::open(input());
  LyingOps ops;
  OutputDirectory out(output(), source, ExistingOutput::kRefuse, "copy", "write_job 1", ops);
  SafetensorsWriter writer(out, "m.safetensors", {{"a", DType::kU8, {2400}}});
  const std::string bytes(2400, 'x');
  writer.append("a", std::as_bytes(std::span(bytes)));
  EXPECT_CONTAINS(sentence_of([&] { writer.finish({}); }),
                  "tensor 'a': the disk gave back other bytes than were written");
  EXPECT_FALSE(std::filesystem::exists(output() + "/m.safetensors"));
}

}  // namespace
}  // namespace megamoe
