// Whether bytes are still those they were: the hash, and pages that were given back.
#include <gtest/gtest.h>

#include <algorithm>
#include <barrier>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/content_digest.h"
#include "checkpoint/file.h"
#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/files/write_job.h"
#include "checkpoint/hex.h"
#include "checkpoint/model_files.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/xxh3.h"

namespace megamoe::test {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

// Values of xxHash's own test program (xxhsum -H2) for nothing and for one word.
TEST(xxh3, has_the_values_of_its_specification) {
  EXPECT_EQ(to_hex(xxh3({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(to_hex(xxh3(bytes_of("abc"))), "06b05ab6733a618578af5f94892f3950");
}

// One state object, fed in pieces of any size, as files are.
TEST(xxh3, pieces_hash_to_what_the_whole_does) {
  std::mt19937 random(1);
  std::string text(100'000, '\0');
  for (char& c : text) c = static_cast<char>(random());
  for (int round = 0; round < 50; ++round) {
    const std::string part = text.substr(0, random() % text.size());
    Xxh3 hash;
    for (std::size_t at = 0; at < part.size();) {
      const std::size_t n = std::min<std::size_t>(1 + random() % 5000, part.size() - at);
      hash.update(bytes_of(part).subspan(at, n));
      at += n;
    }
    EXPECT_EQ(hash.finish(), xxh3(bytes_of(part)));
  }
}

TEST(xxh3, every_bit_counts) {
  std::string text(3000, 'x');
  const Xxh3Digest digest = xxh3(bytes_of(text));
  for (std::size_t bit = 0; bit < 8 * text.size(); bit += 7) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(xxh3(bytes_of(text)), digest) << bit;
    text[bit / 8] = 'x';
  }
}

class Content : public testing::Test {
 protected:
  void SetUp() override { write_source_model(input()); }
  std::string input() const { return dir_ / "input"; }
  std::string output() const { return dir_ / "output"; }

 private:
  TempDir dir_;
};

TEST_F(Content, forgotten_pages_come_back) {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += std::to_string(i);
  write_bytes(input() + "/big", text);
  const MappedFile file = MappedFile::open(input() + "/big");
  ASSERT_EQ(std::string_view(reinterpret_cast<const char*>(file.bytes().data()), text.size()), text);
  file.forget(file.bytes().subspan(5, 60'000));
  file.forget(file.bytes().first(1));
  EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(file.bytes().data()), text.size()), text);
}

TEST_F(Content, threads_write_tensors_at_the_same_time) {
  constexpr std::size_t kTensors = 8, kPieces = 40, kPiece = 3000;
  std::vector<TensorSpec> specs;
  for (std::size_t t = 0; t < kTensors; ++t)
    specs.push_back({"t" + std::to_string(t), DType::kU8, {static_cast<std::int64_t>(kPieces * kPiece)}});
  const ModelFiles source = ModelFiles::open(input());
  OutputDirectory out(output(), source, ExistingOutput::kRefuse, "copy", "write_job 1");
  SafetensorsWriter writer(out, "m.safetensors", specs);
  std::barrier<> piece_is_written(kTensors);  // so that the pieces of all tensors alternate
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kTensors; ++t)
    threads.emplace_back([&, t] {
      for (std::size_t piece = 0; piece < kPieces; ++piece) {
        const std::string bytes(kPiece, static_cast<char>(t * kPieces + piece));
        writer.append("t" + std::to_string(t), bytes_of(bytes));
        piece_is_written.arrive_and_wait();
      }
    });
  for (std::thread& thread : threads) thread.join();
  writer.finish({});

  const SafetensorsFile file = SafetensorsFile::open(output() + "/m.safetensors");
  for (std::size_t t = 0; t < kTensors; ++t) {
    const ConstTensorView view = file.tensor("t" + std::to_string(t));
    for (std::size_t i = 0; i < kPieces * kPiece; ++i)
      ASSERT_EQ(static_cast<const char*>(view.data)[i], static_cast<char>(t * kPieces + i / kPiece)) << t << " " << i;
  }
}

}  // namespace
}  // namespace megamoe::test
