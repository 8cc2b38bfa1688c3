// JSON for programs, on stdout.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace megamoe::cli {

// One object over several lines. A name in a file may hold bytes that are not UTF-8: they become U+FFFD. NaN and
// infinity have no spelling in JSON and become null.
inline void print_json(const nlohmann::json& value) {
  fmt::print("{}\n", value.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace megamoe::cli
