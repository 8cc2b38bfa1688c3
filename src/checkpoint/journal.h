// What an interrupted run has finished, and of what: the file .megamoe-journal in its output.
//
// One JSON object a line: first what the run is (source, options, tool), then one line per finished file. The file is
// replaced whole for every line, so it is never torn.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace megamoe {

inline constexpr char kJournalName[] = ".megamoe-journal";
inline constexpr std::uint64_t kMaxJournalBytes = 64'000'000;

// What must be equal for a run to go on where another stopped.
struct RunIdentity {
  std::string tool;     // name and version
  std::string options;  // everything the caller was asked for that changes a byte of the output
  std::string source;   // fingerprint of the input, see source_fingerprint()

  friend bool operator==(const RunIdentity&, const RunIdentity&) = default;
};

// A finished file.
struct JournalEntry {
  std::uint64_t bytes = 0;
  std::string content;  // hex content_digest of the file
  std::string sources;  // hex content_digest of the source tensors it was made of
};

struct Journal {
  RunIdentity run;
  std::map<std::string, JournalEntry> files;  // by name
};

std::string format_journal(const Journal& journal);
// Throws kBadFile naming `file` and the line.
Journal parse_journal(std::string_view text, const std::string& file);

}  // namespace megamoe
