// The machine that this runs on, in words.
#pragma once

#include <string>
#include <vector>

namespace megamoe::cli {

std::string cpu_model();                      // "unknown" where the system does not tell
std::vector<std::string> instruction_sets();  // those that matter here and that this CPU has
int machine_threads();                        // what --threads 0 means

}  // namespace megamoe::cli
