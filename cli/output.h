// What people read on stdout: aligned tables and short numbers. Colour only on a terminal, and never with NO_COLOR.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace megamoe::cli {

// The terminal's bold, green, red; plain text where stdout has no colour.
std::string bold(std::string_view text);
std::string good(std::string_view text);
std::string bad(std::string_view text);

enum class Align : std::uint8_t { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add_row(std::vector<std::string> cells);  // as many cells as columns
  void print() const;                            // two spaces between columns, titles in bold

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// "name   value" lines, values in one column.
void print_facts(const std::vector<std::pair<std::string, std::string>>& facts);

void print_line(std::string_view text = {});
void print_text(std::string_view text);  // as it is, no line end added

std::string human_bytes(double bytes);                 // "3.4 GiB", "512 B"
std::string human_time(double seconds);                // "27.2 us", "686 us", "14.60 ms", "2.31 s"
std::string human_rate(double bytes, double seconds);  // "1.1 GiB in 435 ms, 2.78 GB/s"
std::string number(double value, int digits);          // fixed point

// Flushes stdout; throws kBadFile if anything that was written there got lost (a full disk, a closed pipe).
void finish_output();

}  // namespace megamoe::cli
