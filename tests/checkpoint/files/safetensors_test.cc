// What the strict reader accepts, and how it treats files that are not quietly lying on a disk.
#include "checkpoint/safetensors.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "checkpoint/files/file_fixtures.h"

namespace megamoe {
namespace {

using test::sentence_of;
using test::TempDir;

SafetensorsHeader parse(const std::string& header, std::uint64_t data_bytes) {
  return parse_safetensors_header(header, data_bytes, "f");
}

TEST(safetensors, reads_tensors_in_order_of_their_data) {
  const TempDir dir;
  std::string bytes = test::safetensors_bytes(
      R"({"second":{"dtype":"I16","shape":[2,1],"data_offsets":[4,8]},"first":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})");
  bytes += std::string("\1\2\3\4\5\0\6\0", 8);
  test::write_bytes(dir / "m.safetensors", bytes);
  const SafetensorsFile file = SafetensorsFile::open(dir / "m.safetensors");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[0].name, "first");
  EXPECT_EQ(file.tensors()[1].name, "second");
  const ConstTensorView view = file.tensor("second");
  EXPECT_EQ(view.dtype, DType::kI16);
  EXPECT_EQ(view.shape, (Shape{2, 1}));
  EXPECT_EQ(std::memcmp(view.data, "\5\0\6\0", 4), 0);
  EXPECT_EQ(file.find_info("third"), nullptr);
  EXPECT_NE(sentence_of([&] { file.tensor("third"); }).find("m.safetensors: has no tensor 'third'"), std::string::npos);
  EXPECT_TRUE(file.notes().empty());
}

TEST(safetensors, accepts_a_misaligned_f64) {
  const TempDir dir;
  test::write_bytes(
      dir / "m.safetensors",
      test::safetensors_bytes(
          R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}})",
          9));
  const SafetensorsFile file = SafetensorsFile::open(dir / "m.safetensors");
  double value = 0;
  std::memcpy(&value, file.tensor("b").data, sizeof value);
  EXPECT_NE(value, 0);
}

TEST(safetensors, accepts_an_empty_header) {
  EXPECT_TRUE(parse("{}", 0).tensors.empty());
  EXPECT_TRUE(parse("{ \n\t\r }  ", 0).tensors.empty());
}

TEST(safetensors, accepts_several_empty_tensors_at_one_place) {
  const SafetensorsHeader header = parse(
      R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"e2":{"dtype":"F32","shape":[3,0],"data_offsets":[4,4]},)"
      R"("e0":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"e1":{"dtype":"F64","shape":[0,7],"data_offsets":[0,0]}})",
      4);
  ASSERT_EQ(header.tensors.size(), 4u);
  EXPECT_EQ(header.tensors[2].name, "x");
}

TEST(safetensors, accepts_scalars_and_even_four_bit_counts) {
  const SafetensorsHeader header = parse(
      R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"c":{"dtype":"F4","shape":[2,3],"data_offsets":[4,7]},)"
      R"("d":{"dtype":"F6_E3M2","shape":[4],"data_offsets":[7,10]}})",
      10);
  EXPECT_EQ(header.tensors[0].shape.rank(), 0);
  EXPECT_EQ(header.tensors[1].bytes(), 3u);
}

TEST(safetensors, accepts_every_dtype) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    const auto dtype = static_cast<DType>(i);
    const std::uint64_t bytes = static_cast<std::uint64_t>(dtype_bits(dtype));  // of eight elements
    const std::string header = R"({"a":{"dtype":")" + std::string(dtype_name(dtype)) +
                               R"(","shape":[8],"data_offsets":[0,)" + std::to_string(bytes) + "]}}";
    EXPECT_EQ(parse(header, bytes).tensors.at(0).dtype, dtype);
  }
}

TEST(safetensors, notes_leading_spaces) {
  const SafetensorsHeader header = parse("   {}", 0);
  ASSERT_EQ(header.notes.size(), 1u);
  EXPECT_NE(header.notes[0].find("begins with 3 spaces"), std::string::npos);
}

TEST(safetensors, keeps_metadata_and_unescapes_names) {
  const SafetensorsHeader header = parse(
      R"({"__metadata__":{"format":"pt","k\u00e9y":"\ud83d\ude00"},"w\u0065ight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
      0);
  ASSERT_EQ(header.metadata.size(), 2u);
  EXPECT_EQ(header.metadata[1].first, "k\xc3\xa9y");
  EXPECT_EQ(header.metadata[1].second, "\xf0\x9f\x98\x80");
  EXPECT_EQ(header.tensors[0].name, "weight");
}

// A name is data: it may look like a path, be empty, or differ from another only in its Unicode form.
TEST(safetensors, names_are_only_compared) {
  const auto empty_tensor = [](const std::string& name) {
    return '"' + name + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  };
  const SafetensorsHeader header =
      parse("{" + empty_tensor("../../etc/passwd") + "," + empty_tensor("") + "," + empty_tensor("\xc3\xa9") + "," +
                empty_tensor("e\xcc\x81") + "," + empty_tensor(std::string(4096, 'n')) + "}",
            0);
  EXPECT_EQ(header.tensors.size(), 5u);
}

TEST(safetensors, refuses_what_is_not_a_regular_file) {
  const TempDir dir;
  ASSERT_EQ(::mkfifo((dir / "fifo").c_str(), 0600), 0);
  ASSERT_EQ(::symlink("loop", (dir / "loop").c_str()), 0);
  const auto refusal = [](const std::string& path) { return sentence_of([&] { SafetensorsFile::open(path); }); };
  EXPECT_EQ(refusal(dir / "fifo"), dir / "fifo" + ": found a FIFO, accepted: a regular file");
  EXPECT_EQ(refusal(dir.path()), dir.path() + ": found a directory, accepted: a regular file");
  EXPECT_EQ(refusal("/dev/zero"), "/dev/zero: found a device, accepted: a regular file");
  EXPECT_EQ(refusal(dir / "none"), dir / "none" + ": cannot open: No such file or directory");
  EXPECT_EQ(refusal(dir / "loop"), dir / "loop" + ": cannot open: Too many levels of symbolic links");
}

TEST(safetensors, a_sparse_file_costs_its_header_at_most) {
  const TempDir dir;
  test::write_bytes(dir / "m.safetensors", test::length_bytes(1000));
  ASSERT_EQ(::truncate((dir / "m.safetensors").c_str(), off_t{1} << 40), 0);
  EXPECT_NE(sentence_of([&] { SafetensorsFile::open(dir / "m.safetensors"); }).find("header byte 0: found '\\x00'"),
            std::string::npos);
}

TEST(safetensors, notices_a_file_that_changes) {
  const TempDir dir;
  const std::string path = dir / "m.safetensors";
  test::write_bytes(path, test::safetensors_bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4));
  const SafetensorsFile file = SafetensorsFile::open(path);
  file.require_unchanged();
  std::ofstream(path, std::ios::app) << "more";
  EXPECT_NE(sentence_of([&] { file.require_unchanged(); }).find("changed while it was read"), std::string::npos);
  ASSERT_EQ(::truncate(path.c_str(), 10), 0);
  std::byte copy[16];
  EXPECT_EQ(sentence_of([&] { file.file().read_at(4, copy); }),
            path + ": short read at byte 4: wanted 16 bytes, got 6");
}

// Peak resident memory of parsing, in a process of its own.
TEST(safetensors, parsing_needs_at_most_eight_times_the_header) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers have their own memory";
#endif
  std::string header = "{";
  for (int i = 0; i < 300'000; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  header += "}";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const auto peak_bytes = [] {
      rusage usage{};
      ::getrusage(RUSAGE_SELF, &usage);
      return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
    };
    const std::size_t before = peak_bytes();
    const std::size_t tensors = parse(header, 0).tensors.size();
    const std::size_t used = peak_bytes() - before;
    std::fprintf(stderr, "header %zu bytes, parsing took %zu bytes (%.2f times)\n", header.size(), used,
                 static_cast<double>(used) / static_cast<double>(header.size()));
    ::_exit(tensors == 300'000 && used <= 8 * header.size() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(safetensors, refuses_more_than_2_to_the_20_tensors) {
  std::string header = "{";
  for (std::size_t i = 0; i <= kMaxTensors; ++i)
    header += (i ? ",\"" : "\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  EXPECT_NE(sentence_of([&] { parse(header + "}", 0); }).find("accepted: at most 1048576 tensors"), std::string::npos);
}

}  // namespace
}  // namespace megamoe
