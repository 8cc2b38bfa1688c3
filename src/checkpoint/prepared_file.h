// The header of a file of prepared weights (megamoe/prepared_file.h), and writing with system calls of a test's choice.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/file.h"
#include "checkpoint/file_ops.h"
#include "megamoe/prepared_file.h"

namespace megamoe {

inline constexpr std::string_view kPreparedMagic = "megamoe prepared";
inline constexpr std::uint32_t kPreparedFormat = 1;
inline constexpr std::size_t kPreparedPrefixBytes = kPreparedMagic.size() + 8;  // magic, format, bytes of JSON
inline constexpr std::uint64_t kPreparedAlign = 4096;                           // of sections

struct PreparedSection {
  std::string name;
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

struct PreparedHeader {
  std::string backend;
  std::uint64_t layout = 0;
  std::string problem;  // Problem::to_string()
  std::string source;
  std::vector<PreparedSection> sections;
  std::uint64_t file_bytes = 0;  // to the end of the last section
};

// Gives the sections, whose names and sizes are set, their offsets, and the header its file_bytes; returns the file's
// first bytes, prefix and JSON.
std::string layout_prepared(PreparedHeader& header);

// Throws kBadFile, kUnsupported for another format. Every section lies inside the file and begins aligned.
PreparedHeader read_prepared_header(const MappedFile& file);

void save_prepared(const PreparedWeights& weights, const std::string& path, const SavePreparedOptions& options,
                   FileOps& ops);

}  // namespace megamoe
