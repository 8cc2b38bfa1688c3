// How far a long job is, on stderr: a bar that rewrites its line on a terminal, otherwise one plain line at each tenth;
// nothing with --quiet.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace megamoe::cli {

class Progress {
 public:
  Progress(std::string title, bool quiet);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `what` is the part being worked on. Cheap to call often: a terminal is written to ten times a second at most.
  void update(std::uint64_t done, std::uint64_t total, std::string_view what);
  void finish();  // ends the bar's line; messages may follow

 private:
  void draw(std::uint64_t done, std::uint64_t total, std::string_view what);

  std::string title_;
  bool quiet_;
  bool terminal_;
  bool line_open_ = false;
  std::uint64_t tenths_ = 0;
  std::chrono::steady_clock::time_point last_draw_{};
};

}  // namespace megamoe::cli
