// Every malformed file is refused with a sentence that names the file, the place and the reason.
#include <gtest/gtest.h>

#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/files/malformed_cases.h"
#include "checkpoint/model_files.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/shard_index.h"

namespace megamoe {
namespace {

using test::MalformedCase;
using test::sentence_of;
using test::TempDir;

void expect_sentence(const std::string& sentence, const std::string& file, const MalformedCase& malformed) {
  EXPECT_TRUE(sentence.starts_with(file + ":")) << malformed.name << ": " << sentence;
  EXPECT_NE(sentence.find(malformed.expected), std::string::npos)
      << malformed.name << ": wanted \"" << malformed.expected << "\" in: " << sentence;
  EXPECT_LT(sentence.size(), 700u) << malformed.name;
  EXPECT_EQ(sentence.find_first_of(std::string("\0\n\x1b", 3)), std::string::npos) << malformed.name;
}

TEST(malformed, safetensors_are_refused_with_place_and_reason) {
  const TempDir dir;
  const std::string path = dir / "model.safetensors";
  for (const MalformedCase& malformed : test::malformed_safetensors()) {
    test::write_bytes(path, malformed.bytes);
    expect_sentence(sentence_of([&] { SafetensorsFile::open(path); }), path, malformed);
  }
}

TEST(malformed, shard_indexes_are_refused_with_place_and_reason) {
  const std::string file = "model.safetensors.index.json";
  for (const MalformedCase& malformed : test::malformed_shard_indexes())
    expect_sentence(sentence_of([&] { parse_shard_index(malformed.bytes, file); }), file, malformed);
}

TEST(malformed, corpus_has_150_cases_with_distinct_names) {
  std::vector<MalformedCase> cases = test::malformed_safetensors();
  for (MalformedCase& malformed : test::malformed_shard_indexes()) {
    malformed.name = "index: " + malformed.name;
    cases.push_back(std::move(malformed));
  }
  std::vector<std::string> names;
  for (const MalformedCase& malformed : cases) names.push_back(malformed.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  EXPECT_GE(names.size(), 150u);
  RecordProperty("cases", static_cast<int>(names.size()));
}

// Cutting a good file anywhere, or growing it, is always noticed.
TEST(malformed, every_truncation_is_refused) {
  const TempDir dir;
  const std::string path = dir / "model.safetensors";
  const std::string good = test::safetensors_bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 4);
  for (std::size_t bytes = 0; bytes < good.size(); ++bytes) {
    test::write_bytes(path, good.substr(0, bytes));
    EXPECT_NE(sentence_of([&] { SafetensorsFile::open(path); }), "") << bytes << " bytes";
  }
  test::write_bytes(path, good);
  EXPECT_EQ(sentence_of([&] { SafetensorsFile::open(path); }), "");
}

// One flipped bit gives a refusal or the same tensors under other names, shapes or types; never a crash or a place
// outside.
TEST(malformed, every_bit_flip_of_a_header_is_safe) {
  const std::string good =
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"F4","shape":[2,4],"data_offsets":[4,8]}})";
  ASSERT_EQ(parse_safetensors_header(good, 8, "f").tensors.size(), 2u);
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    std::string header = good;
    header[bit / 8] = static_cast<char>(header[bit / 8] ^ (1 << bit % 8));
    sentence_of([&] {
      for (const TensorInfo& tensor : parse_safetensors_header(header, 8, "f").tensors) {
        EXPECT_LE(tensor.end, 8u);
        EXPECT_EQ(ConstTensorView({nullptr, tensor.dtype, tensor.shape}).bytes(),
                  static_cast<std::int64_t>(tensor.bytes()));
      }
    });
  }
}

}  // namespace
}  // namespace megamoe
