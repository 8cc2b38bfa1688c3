// A picture of what `bench` found: time and share of the floor over tokens.
#pragma once

#include <string>

#include "bench_output.h"

namespace megamoe::cli {

// One curve a routing. Throws kBadFile where the system refuses the file.
void write_bench_plot(const BenchRecord& record, const std::string& path);

}  // namespace megamoe::cli
