// Small questions about directories, asked through descriptors so that links and mounts cannot mislead.
#pragma once

#include <string>
#include <vector>

namespace megamoe {

// Names of everything in the directory but "." and "..", ascending. Throws kBadFile; `shown` is how sentences call it.
std::vector<std::string> list_directory(int directory, const std::string& shown);

// True when walking up from `directory` to the root passes `ancestor` (compared by device and inode).
bool is_inside_or_same(int directory, int ancestor);

struct PathParts {
  std::string parent;  // "." when the path has one component
  std::string name;
};

// Throws kInvalidArgument for a path that does not end in a name: "", "/", ".", "a/..".
PathParts split_path(const std::string& path);

}  // namespace megamoe
