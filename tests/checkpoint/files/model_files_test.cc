// Model directories: which file a tensor comes from, and which files are never opened.
#include "checkpoint/model_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "checkpoint/files/file_fixtures.h"

namespace megamoe {
namespace {

using test::sentence_of;
using test::TempDir;

// A file of U8 tensors of four bytes each.
std::string shard(const std::vector<std::string>& names) {
  std::string header = "{";
  for (std::size_t i = 0; i < names.size(); ++i)
    header += (i ? ",\"" : "\"") + names[i] + R"(":{"dtype":"U8","shape":[4],"data_offsets":[)" +
              std::to_string(4 * i) + "," + std::to_string(4 * i + 4) + "]}";
  return test::safetensors_bytes(header + "}", 4 * names.size());
}

// a, c in shard 1; b in shard 2: one layer's tensors are spread.
void write_sharded(const TempDir& dir, const std::string& total_size = "12") {
  test::write_bytes(dir / "m-1.safetensors", shard({"c", "a"}));
  test::write_bytes(dir / "m-2.safetensors", shard({"b"}));
  test::write_bytes(dir / "model.safetensors.index.json",
                    R"({"metadata":{"total_size":)" + total_size +
                        R"(},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-1.safetensors"}})");
}

std::string refusal(const std::string& directory, ModelDirectoryOptions options = {}) {
  return sentence_of([&] { ModelFiles::open(directory, options); });
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST(model_files, index_maps_each_tensor_to_its_shard) {
  const TempDir dir;
  write_sharded(dir);
  const ModelFiles model = ModelFiles::open(dir.path());
  ASSERT_EQ(model.tensors().size(), 3u);
  EXPECT_EQ(model.tensors()[0].name, "c");
  EXPECT_EQ(model.tensors()[1].name, "a");
  EXPECT_EQ(model.tensors()[2].name, "b");
  EXPECT_EQ(model.shard_name(model.tensor("b").shard), "m-2.safetensors");
  EXPECT_EQ(model.total_bytes(), 12u);
  EXPECT_EQ(model.find("d"), nullptr);
  EXPECT_CONTAINS(sentence_of([&] { model.tensor("d"); }), "the model has no tensor 'd'");
  EXPECT_TRUE(model.notes().empty()) << model.notes().front();
  model.require_unchanged();
}

TEST(model_files, survives_being_moved) {
  const TempDir dir;
  write_sharded(dir);
  ModelFiles model = ModelFiles::open(dir.path());
  const ModelFiles moved = std::move(model);
  EXPECT_EQ(*static_cast<const unsigned char*>(moved.tensor("a").view.data), 0x5a);
}

TEST(model_files, one_file_needs_no_index) {
  const TempDir dir;
  test::write_bytes(dir / "weights.safetensors", shard({"a"}));
  EXPECT_EQ(ModelFiles::open(dir.path()).tensors().size(), 1u);
  test::write_bytes(dir / "other.safetensors", shard({"b"}));
  EXPECT_CONTAINS(refusal(dir.path()), "found 2 .safetensors files and no model.safetensors.index.json");
  test::write_bytes(dir / "model.safetensors", shard({"c"}));
  const ModelFiles model = ModelFiles::open(dir.path());
  EXPECT_EQ(model.tensors()[0].name, "c");
  EXPECT_EQ(model.notes().size(), 2u);
}

TEST(model_files, refuses_a_directory_without_a_model) {
  const TempDir dir;
  EXPECT_CONTAINS(refusal(dir.path()), "found 0 .safetensors files");
  EXPECT_CONTAINS(refusal(dir / "none"), "none: cannot open as a model directory: No such file");
  test::write_bytes(dir / "file", "");
  EXPECT_CONTAINS(refusal(dir / "file"), "cannot open as a model directory: Not a directory");
}

TEST(model_files, names_a_missing_shard) {
  const TempDir dir;
  write_sharded(dir);
  std::filesystem::remove(dir / "m-2.safetensors");
  EXPECT_CONTAINS(refusal(dir.path()), "m-2.safetensors: missing: No such file");
}

TEST(model_files, names_a_tensor_that_is_not_in_its_shard) {
  const TempDir dir;
  write_sharded(dir);
  test::write_bytes(dir / "m-2.safetensors", shard({"x"}));
  EXPECT_CONTAINS(refusal(dir.path()), "index.json: weight_map: tensor 'b' is not in its shard 'm-2.safetensors'");
}

TEST(model_files, names_a_malformed_shard) {
  const TempDir dir;
  write_sharded(dir);
  test::write_bytes(dir / "m-2.safetensors", shard({"b"}) + "x");
  EXPECT_CONTAINS(refusal(dir.path()), "m-2.safetensors: header: the tensors end at byte 4 of the data");
}

TEST(model_files, index_decides_between_two_shards) {
  const TempDir dir;
  write_sharded(dir);
  test::write_bytes(dir / "m-2.safetensors", shard({"a", "b"}));
  const ModelFiles model = ModelFiles::open(dir.path());
  EXPECT_EQ(model.shard_name(model.tensor("a").shard), "m-1.safetensors");
  ASSERT_EQ(model.notes().size(), 1u);
  EXPECT_CONTAINS(model.notes()[0],
                  "m-2.safetensors: tensor 'a' is not used: the index takes it from 'm-1.safetensors'");
}

TEST(model_files, notes_what_the_index_leaves_out) {
  const TempDir dir;
  write_sharded(dir, "13");
  test::write_bytes(dir / "m-2.safetensors", shard({"b", "z"}));
  test::write_bytes(dir / "m-3.safetensors", "not even read");
  const ModelFiles model = ModelFiles::open(dir.path());
  ASSERT_EQ(model.notes().size(), 3u);
  EXPECT_CONTAINS(model.notes()[0], "tensor 'z' is not in the index and is not used");
  EXPECT_CONTAINS(model.notes()[1], "m-3.safetensors: is not part of the model");
  EXPECT_CONTAINS(model.notes()[2], "total_size is 13, the tensors have 12 bytes");
}

TEST(model_files, a_floating_total_size_is_noted) {
  const TempDir dir;
  write_sharded(dir, "12.0");
  const ModelFiles model = ModelFiles::open(dir.path());
  ASSERT_EQ(model.notes().size(), 1u);
  EXPECT_CONTAINS(model.notes()[0], "total_size '12.0' is not a plain integer");
}

TEST(model_files, refuses_an_index_above_256_mb) {
  const TempDir dir;
  test::write_bytes(dir / "model.safetensors.index.json", "{");
  ASSERT_EQ(::truncate((dir / "model.safetensors.index.json").c_str(), 256'000'001), 0);
  EXPECT_CONTAINS(refusal(dir.path()), "found 256000001 bytes, accepted: at most 256000000");
}

class ModelLinks : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directories(dir_ / "model");
    std::filesystem::create_directories(dir_ / "outside");
    test::write_bytes(dir_ / "outside/w.safetensors", shard({"a"}));
  }
  void link(const std::string& target) {
    ASSERT_EQ(::symlink(target.c_str(), (dir_ / "model/model.safetensors").c_str()), 0);
  }
  std::string refusal_of_model(ModelDirectoryOptions options = {}) { return refusal(dir_ / "model", options); }

  TempDir dir_;
};

TEST_F(ModelLinks, inside_the_directory_is_followed) {
  std::filesystem::create_directories(dir_ / "model/data");
  test::write_bytes(dir_ / "model/data/w", shard({"a"}));
  link("data/w");
  EXPECT_EQ(refusal_of_model(), "");
}

TEST_F(ModelLinks, out_of_the_directory_needs_permission) {
  link("../outside/w.safetensors");
  EXPECT_CONTAINS(refusal_of_model(), "model/model.safetensors: is a link to");
  EXPECT_EQ(refusal_of_model({.allow_outside_links = true}), "");
}

TEST_F(ModelLinks, absolute_target_outside_is_refused) {
  link(dir_ / "outside/w.safetensors");
  EXPECT_CONTAINS(refusal_of_model(), "is a link to");
}

TEST_F(ModelLinks, through_a_linked_subdirectory_is_refused) {
  ASSERT_EQ(::symlink("../outside", (dir_ / "model/sub").c_str()), 0);
  link("sub/w.safetensors");
  EXPECT_CONTAINS(refusal_of_model(), "is a link to");
}

TEST_F(ModelLinks, to_a_neighbour_whose_name_begins_alike_is_refused) {
  std::filesystem::create_directories(dir_ / "model2");
  test::write_bytes(dir_ / "model2/w", shard({"a"}));
  link("../model2/w");
  EXPECT_CONTAINS(refusal_of_model(), "is a link to");
}

TEST_F(ModelLinks, magic_link_is_refused) {
  const int fd = ::open((dir_ / "outside/w.safetensors").c_str(), O_RDONLY);
  link("/proc/self/fd/" + std::to_string(fd));
  EXPECT_NE(refusal_of_model(), "");
  ::close(fd);
}

TEST_F(ModelLinks, loop_and_dangling_are_refused) {
  link("model.safetensors");
  EXPECT_CONTAINS(refusal_of_model(), "cannot open: Too many levels of symbolic links (a symbolic link");
  std::filesystem::remove(dir_ / "model/model.safetensors");
  link("nowhere");
  EXPECT_CONTAINS(refusal_of_model(), "cannot open: No such file or directory (a symbolic link");
}

TEST_F(ModelLinks, to_a_device_or_a_directory_is_refused) {
  link("/dev/zero");
  EXPECT_NE(refusal_of_model(), "");
  EXPECT_CONTAINS(refusal_of_model({.allow_outside_links = true}), "found a device");
  std::filesystem::remove(dir_ / "model/model.safetensors");
  std::filesystem::create_directories(dir_ / "model/model.safetensors");
  EXPECT_CONTAINS(refusal_of_model(), "found a directory");
}

TEST_F(ModelLinks, fifo_does_not_block) {
  ASSERT_EQ(::mkfifo((dir_ / "model/model.safetensors").c_str(), 0600), 0);
  EXPECT_CONTAINS(refusal_of_model(), "found a FIFO");
}

TEST_F(ModelLinks, index_out_of_the_directory_is_refused) {
  test::write_bytes(dir_ / "outside/i.json", R"({"weight_map":{}})");
  ASSERT_EQ(::symlink("../outside/i.json", (dir_ / "model/model.safetensors.index.json").c_str()), 0);
  EXPECT_CONTAINS(refusal_of_model(), "model.safetensors.index.json: is a link to");
}

TEST_F(ModelLinks, hugging_face_cache_is_followed) {
  std::filesystem::create_directories(dir_ / "models--o--n/snapshots/0123");
  std::filesystem::create_directories(dir_ / "models--o--n/blobs");
  test::write_bytes(dir_ / "models--o--n/blobs/abc", shard({"a"}));
  ASSERT_EQ(::symlink("../../blobs/abc", (dir_ / "models--o--n/snapshots/0123/model.safetensors").c_str()), 0);
  EXPECT_EQ(refusal(dir_ / "models--o--n/snapshots/0123"), "");
  // The same shape with another directory's blobs is not the cache's.
  std::filesystem::create_directories(dir_ / "blobs");
  test::write_bytes(dir_ / "blobs/abc", shard({"a"}));
  std::filesystem::remove(dir_ / "models--o--n/snapshots/0123/model.safetensors");
  ASSERT_EQ(::symlink("../../../blobs/abc", (dir_ / "models--o--n/snapshots/0123/model.safetensors").c_str()), 0);
  EXPECT_CONTAINS(refusal(dir_ / "models--o--n/snapshots/0123"), "is a link to");
}

TEST_F(ModelLinks, a_link_to_the_directory_itself_is_fine) {
  test::write_bytes(dir_ / "model/model.safetensors", shard({"a"}));
  ASSERT_EQ(::symlink("model", (dir_ / "alias").c_str()), 0);
  EXPECT_EQ(refusal(dir_ / "alias"), "");
}

TEST_F(ModelLinks, open_takes_one_component) {
  const ModelDirectory directory(dir_ / "model");
  for (const char* name : {"../outside/w.safetensors", "/etc/passwd", "..", ".", "", "a/b", "a\\b"})
    EXPECT_CONTAINS(sentence_of([&] { directory.open(name); }), "accepted: one path component");
}

}  // namespace
}  // namespace megamoe
