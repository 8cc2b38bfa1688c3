// make_corpus DIRECTORY: writes the first inputs of the fuzz targets, from the malformed files of the test suite and
// some good ones.
#include <cstdio>
#include <filesystem>

#include "checkpoint/files/file_fixtures.h"
#include "checkpoint/files/malformed_cases.h"

namespace {

constexpr std::size_t kMaxSeedBytes = 600;  // larger cases probe limits, which mutation does not reach

// `number` keeps names apart that differ only in punctuation.
void write_seed(const std::string& directory, std::size_t number, const std::string& name, const std::string& bytes) {
  if (bytes.size() > kMaxSeedBytes) return;
  std::string file = std::to_string(1000 + number).substr(1) + "-";
  for (const char c : name)
    file += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '-';
  megamoe::test::write_bytes(directory + "/" + file.substr(0, 60), bytes);
}

// The form fuzz_safetensors reads: two bytes for the data's size, then the header.
std::string header_seed(const std::string& header, std::size_t data_bytes) {
  return std::string{static_cast<char>(data_bytes & 0xff), static_cast<char>(data_bytes >> 8)} + header;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace megamoe;
  if (argc != 2) {
    std::fprintf(stderr, "make_corpus: accepted: one directory\n");
    return 2;
  }
  const std::string safetensors = std::string(argv[1]) + "/fuzz_safetensors",
                    index = std::string(argv[1]) + "/fuzz_shard_index";
  std::size_t number = 0;
  std::filesystem::create_directories(safetensors);
  std::filesystem::create_directories(index);
  for (const test::MalformedCase& malformed : test::malformed_safetensors()) {
    if (malformed.bytes.size() < 10) continue;
    const std::size_t length =
        static_cast<unsigned char>(malformed.bytes[0]) + 256u * static_cast<unsigned char>(malformed.bytes[1]);
    if (malformed.bytes.size() < 8 + length) continue;
    write_seed(safetensors, number++, malformed.name,
               header_seed(malformed.bytes.substr(8, length), malformed.bytes.size() - 8 - length));
  }
  for (const test::MalformedCase& malformed : test::malformed_shard_indexes())
    write_seed(index, number++, malformed.name, malformed.bytes);

  write_seed(safetensors, number++, "good empty", header_seed("{}  ", 0));
  write_seed(safetensors, number++, "good two tensors",
             header_seed(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                         R"("b\u00e9":{"dtype":"F4","shape":[2,4],"data_offsets":[4,8]}})",
                         8));
  write_seed(safetensors, number++, "good with spaces",
             header_seed(R"(  { "a" : { "shape" : [ 0 , 2 ] , "data_offsets" : [ 0 , 0 ] , "dtype" : "BF16" } } )", 0));
  write_seed(
      index, number++, "good",
      R"({"metadata":{"total_size":8,"v":"1","n":null,"t":true},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}})");
  write_seed(index, number++, "good empty", R"({"weight_map":{}})");
  return 0;
}
