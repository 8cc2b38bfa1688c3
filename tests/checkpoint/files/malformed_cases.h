// Files that a strict reader must refuse, and why. The fuzzers take them as their first inputs.
#pragma once

#include <string>
#include <vector>

namespace megamoe::test {

struct MalformedCase {
  std::string name;
  std::string bytes;
  std::string expected;  // must occur in the sentence, which also names the file
};

std::vector<MalformedCase> malformed_safetensors();
std::vector<MalformedCase> malformed_shard_indexes();

}  // namespace megamoe::test
