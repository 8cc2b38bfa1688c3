// The directory a model lives in, and which of its files may be opened.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/file.h"

namespace megamoe {

struct ModelDirectoryOptions {
  // Follow symbolic links that lead out of the directory. Links inside it, and those of a Hugging Face cache
  // (snapshots/<revision>/x -> ../../blobs/...), need no permission; magic links (/proc/self/fd/...) get none.
  bool allow_outside_links = false;
};

// A directory of files that a model is made of, opened relative to one descriptor so that nothing can be swapped below.
class ModelDirectory {
 public:
  explicit ModelDirectory(const std::string& path, ModelDirectoryOptions options = {});

  const std::string& path() const noexcept { return path_; }
  int fd() const noexcept { return fd_.get(); }
  std::vector<std::string> file_names() const;  // ascending, of everything but directories
  bool has(const std::string& name) const;
  // `name` is one component. Throws kBadFile for a missing file, one that is not regular, or a link that leads out.
  MappedFile open(const std::string& name) const;

 private:
  void require_link_stays(int file_fd, const std::string& name) const;

  std::string path_;
  UniqueFd fd_;
  std::string real_path_;
  ModelDirectoryOptions options_;
};

}  // namespace megamoe
