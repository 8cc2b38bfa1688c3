// Messages for people, on stderr. stdout carries only what was asked for.
#pragma once

#include <string_view>

namespace megamoe::cli {

void set_quiet(bool quiet);  // from then on only errors are written

void message(std::string_view text);  // "megamoe: text"
void warning(std::string_view text);  // "megamoe: warning: text"
void error(std::string_view text);    // "megamoe: error: text"

}  // namespace megamoe::cli
