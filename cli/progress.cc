#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "messages.h"

namespace megamoe::cli {
namespace {

constexpr std::uint64_t kBarWidth = 30;
constexpr std::size_t kWhatWidth = 40;  // keeps the line inside 100 columns; a wrapped line could not be rewritten
constexpr auto kRedraw = std::chrono::milliseconds(100);

}  // namespace

Progress::Progress(std::string title, bool quiet)
    : title_(std::move(title)), quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

void Progress::finish() {
  if (line_open_) std::fputc('\n', stderr);
  line_open_ = false;
}

void Progress::update(std::uint64_t done, std::uint64_t total, std::string_view what) {
  if (quiet_ || total == 0) return;
  if (terminal_) {
    const auto now = std::chrono::steady_clock::now();
    if (done < total && now - last_draw_ < kRedraw) return;
    last_draw_ = now;
    draw(done, total, what);
    return;
  }
  const std::uint64_t tenths = done * 10 / total;
  if (tenths == tenths_) return;
  tenths_ = tenths;
  message(fmt::format("{}: {}%", title_, tenths * 10));
}

void Progress::draw(std::uint64_t done, std::uint64_t total, std::string_view what) {
  const std::uint64_t filled = std::min(done * kBarWidth / total, kBarWidth);
  const std::string bar = std::string(filled, '#') + std::string(kBarWidth - filled, '.');
  // \x1b[K clears what a longer line before this one left.
  fmt::print(stderr, "\r{} [{}] {:3}% {}\x1b[K", title_, bar, done * 100 / total, what.substr(0, kWhatWidth));
  std::fflush(stderr);
  line_open_ = true;
}

}  // namespace megamoe::cli
