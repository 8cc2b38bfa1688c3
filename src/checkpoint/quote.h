// Text from a file, made safe to put into an error sentence or on a terminal.
#pragma once

#include <string>
#include <string_view>

namespace megamoe {

// 'text' in single quotes; control bytes and invalid UTF-8 become \xNN, and what is longer than 96 bytes is cut
// ("...").
std::string quote(std::string_view text);

// True for a string without NUL, other C0 and C1 controls and DEL. `text` is valid UTF-8.
bool is_printable_name(std::string_view text) noexcept;

}  // namespace megamoe
