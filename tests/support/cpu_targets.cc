#include "support/cpu_targets.h"

#include <cstdlib>
#include <vector>

#if MEGAMOE_HAVE_CPU_BACKEND
#include "backends/cpu/kernels.h"
#endif

namespace megamoe::test {

void for_each_cpu_target([[maybe_unused]] const std::function<void(const std::string& target)>& check) {
#if MEGAMOE_HAVE_CPU_BACKEND
  const char* asked = std::getenv("MEGAMOE_ISA");
  const bool has_asked = asked != nullptr && *asked != '\0';
  std::vector<std::string> targets = cpu::targets();
  if (has_asked) targets = {std::string(cpu::kernels(asked).target)};
  for (const std::string& target : targets) {
    const cpu::TargetOverride in_force(target);
    check(target);
  }
#endif
}

}  // namespace megamoe::test
