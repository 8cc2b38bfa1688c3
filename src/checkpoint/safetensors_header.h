// The header of a safetensors file: which tensors it holds, and where.
//
// Layout of a file (https://github.com/huggingface/safetensors): N as u64 little-endian, N bytes of JSON, then the
// data:
//   {"__metadata__": {"k": "v"}, "name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [BEGIN, END]}, ...}
// with offsets counted from the start of the data. This reader is stricter than the reference one: it refuses duplicate
// keys, unknown fields, null metadata and products that overflow, and it bounds what a hostile header can cost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "megamoe/tensor.h"

namespace megamoe {

inline constexpr std::uint64_t kSafetensorsLengthBytes = 8;
inline constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;     // as the reference implementation
inline constexpr std::size_t kMaxTensors = std::size_t{1} << 20;  // per file
inline constexpr std::size_t kMaxTensorNameBytes = 4096;          // after unescaping
inline constexpr std::size_t kMaxMetadataEntries = std::size_t{1} << 16;
inline constexpr std::int64_t kMaxDim = std::int64_t{1} << 48;

// One tensor; [begin, end) are bytes from the start of the data.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kU8;
  Shape shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t bytes() const noexcept { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in order of their data
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<std::string> notes;  // oddities that are accepted: one sentence each
};

// N, from the first bytes of a file of `file_bytes` bytes: at least 1, at most kMaxHeaderBytes, and inside the file.
// `first` has 8 bytes, or all of a shorter file. Throws kBadFile.
std::uint64_t checked_header_length(std::span<const std::byte> first, std::uint64_t file_bytes,
                                    const std::string& file);

// Parses the N bytes of JSON and checks them against the size of the data that follows. Names are compared as bytes:
// two Unicode forms of one text are two names. Never builds a path from a name. Memory: at most 8 times the header.
// Throws kBadFile: "<file>: header byte B: tensor 'x': reason, found, accepted".
SafetensorsHeader parse_safetensors_header(std::string json, std::uint64_t data_bytes, const std::string& file);

// Bytes of a tensor; throws kBadFile, with `what` in front, when the product of the non-zero dimensions overflows or
// the bits do not fill whole bytes.
std::uint64_t checked_tensor_bytes(const Shape& shape, DType dtype, std::string_view what);

}  // namespace megamoe
