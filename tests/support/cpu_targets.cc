#include "support/cpu_targets.h"

#if MEGAMOE_HAVE_CPU_BACKEND
#include "backends/cpu/kernels.h"
#endif

namespace megamoe::test {

void for_each_cpu_target([[maybe_unused]] const std::function<void(const std::string& target)>& check) {
#if MEGAMOE_HAVE_CPU_BACKEND
  for (const std::string& target : cpu::targets()) {
    const cpu::TargetOverride in_force(target);
    check(target);
  }
#endif
}

}  // namespace megamoe::test
