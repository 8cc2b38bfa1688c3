// Who computes what: backends against weight and activation formats, asked of the backends themselves.
#pragma once

#include <string>

namespace megamoe::cli {

// A Markdown table, one line a pair of formats, one column a backend, whether this machine has the hardware or not.
// README.md holds it, and a test compares.
std::string support_table();

}  // namespace megamoe::cli
