// The instruction sets of the cpu backend; none where this build has no such backend.
#pragma once

#include <functional>
#include <string>

namespace megamoe::test {

// Calls `check` once for each instruction set that the build holds and the machine runs, in force while it runs. With
// MEGAMOE_ISA in the environment, only for that one.
void for_each_cpu_target(const std::function<void(const std::string& target)>& check);

}  // namespace megamoe::test
