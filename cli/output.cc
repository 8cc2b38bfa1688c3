#include "output.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "megamoe/error.h"

namespace megamoe::cli {
namespace {

bool color_wanted() {
  const char* no_color = std::getenv("NO_COLOR");  // https://no-color.org: present and not empty
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && term != nullptr && std::strcmp(term, "dumb") != 0;
}

std::string painted(std::string_view text, const char* code) {
  static const bool color = color_wanted();
  return color ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

std::string padded(std::string_view text, std::size_t width, Align align) {
  return align == Align::kLeft ? fmt::format("{:<{}}", text, width) : fmt::format("{:>{}}", text, width);
}

}  // namespace

std::string bold(std::string_view text) { return painted(text, "1"); }
std::string good(std::string_view text) { return painted(text, "32"); }
std::string bad(std::string_view text) { return painted(text, "31"); }

void Table::add_row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

void Table::print() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    widths.push_back(columns_[c].title.size());
    for (const auto& row : rows_) widths[c] = std::max(widths[c], row[c].size());
  }
  const auto line = [&](const auto& cell) {
    std::string text;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      if (c != 0) text += "  ";
      text += padded(cell(c), widths[c], columns_[c].align);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  print_line(bold(line([&](std::size_t c) { return columns_[c].title; })));
  for (const auto& row : rows_) print_line(line([&](std::size_t c) { return row[c]; }));
}

void print_facts(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::size_t width = 0;
  for (const auto& [name, value] : facts) width = std::max(width, name.size());
  for (const auto& [name, value] : facts) print_line(bold(padded(name, width, Align::kLeft)) + "  " + value);
}

void print_line(std::string_view text) { fmt::print("{}\n", text); }
void print_text(std::string_view text) { fmt::print("{}", text); }

std::string human_bytes(double bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024.0 && unit + 1 < kUnits.size()) {
    bytes /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes)
                   : fmt::format("{:.{}f} {}", bytes, bytes < 100 ? 1 : 0, kUnits[unit]);
}

std::string human_time(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.{}f} us", seconds * 1e6, seconds < 1e-4 ? 1 : 0);
  if (seconds < 1.0) return fmt::format("{:.{}f} ms", seconds * 1e3, seconds < 0.1 ? 2 : 0);
  return fmt::format("{:.2f} s", seconds);
}

std::string human_rate(double bytes, double seconds) {
  return fmt::format("{} in {}, {:.2f} GB/s", human_bytes(bytes), human_time(seconds), bytes / seconds * 1e-9);
}

std::string number(double value, int digits) { return fmt::format("{:.{}f}", value, digits); }

void finish_output() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    throw Error(Code::kBadFile, "standard output: ", std::strerror(errno));
}

}  // namespace megamoe::cli
