#include "checkpoint/directory_tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <string_view>

#include "checkpoint/file.h"
#include "checkpoint/quote.h"
#include "megamoe/error.h"

namespace megamoe {

std::vector<std::string> list_directory(int directory, const std::string& shown) {
  // fdopendir takes its descriptor over and moves its offset, so it gets a fresh one.
  const int own_fd = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* raw = own_fd < 0 ? nullptr : ::fdopendir(own_fd);
  if (raw == nullptr) throw Error(Code::kBadFile, shown, ": cannot list: ", errno_text(errno));
  const auto close_directory = [](DIR* stream) { ::closedir(stream); };
  const std::unique_ptr<DIR, decltype(close_directory)> stream(raw, close_directory);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(stream.get()))
    if (std::string_view(entry->d_name) != "." && std::string_view(entry->d_name) != "..")
      names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

bool is_inside_or_same(int directory, int ancestor) {
  struct stat wanted {
  }, here{}, below{};
  if (::fstat(ancestor, &wanted) != 0 || ::fstat(directory, &here) != 0) return false;
  UniqueFd at;
  for (;;) {
    if (here.st_dev == wanted.st_dev && here.st_ino == wanted.st_ino) return true;
    UniqueFd up(::openat(at ? at.get() : directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    below = here;
    if (!up || ::fstat(up.get(), &here) != 0) return false;
    if (here.st_dev == below.st_dev && here.st_ino == below.st_ino) return false;  // the root is its own parent
    at = std::move(up);
  }
}

PathParts split_path(const std::string& path) {
  std::filesystem::path whole = std::filesystem::path(path).lexically_normal();
  if (!whole.has_filename()) whole = whole.parent_path();  // "out/" is "out"
  const std::string name = whole.filename().string();
  if (name.empty() || name == "." || name == "..")
    throw Error(Code::kInvalidArgument, "output: found path ", quote(path),
                ", accepted: one that ends in a directory's name");
  const std::string parent = whole.parent_path().string();
  return {.parent = parent.empty() ? "." : parent, .name = name};
}

}  // namespace megamoe
