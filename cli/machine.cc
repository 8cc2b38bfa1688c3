#include "machine.h"

#include <tbb/task_arena.h>

#include <fstream>

namespace megamoe::cli {

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const auto at = line.find(": "); line.starts_with("model name") && at != std::string::npos)
      return line.substr(at + 2);
  return "unknown";
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> found;
#if defined(__x86_64__)
  // The builtin takes literals only.
#define MEGAMOE_ADD_IF(feature, title) \
  if (__builtin_cpu_supports(feature)) found.emplace_back(title)
  MEGAMOE_ADD_IF("sse4.2", "SSE4.2");
  MEGAMOE_ADD_IF("avx2", "AVX2");
  MEGAMOE_ADD_IF("fma", "FMA");
  MEGAMOE_ADD_IF("avx512f", "AVX-512F");
  MEGAMOE_ADD_IF("avx512vbmi", "AVX-512VBMI");
  MEGAMOE_ADD_IF("avx512vnni", "AVX-512VNNI");
  MEGAMOE_ADD_IF("avx512bf16", "AVX-512BF16");
#undef MEGAMOE_ADD_IF
#elif defined(__aarch64__)
  found.emplace_back("NEON");
#endif
  return found;
}

int machine_threads() { return tbb::this_task_arena::max_concurrency(); }

}  // namespace megamoe::cli
