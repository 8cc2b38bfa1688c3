// The only file that sees oneTBB. ThreadSanitizer cannot look into its shared library, so the sanitizer build leaves
// this file uninstrumented (src/base/CMakeLists.txt) and is told here what a loop orders: everything before it,
// then the steps, then everything after it.
#include "base/threads.h"

#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <optional>

#include "megamoe/error.h"

#if defined(MEGAMOE_THREAD_SANITIZER)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#else
static inline void __tsan_acquire(void*) {}
static inline void __tsan_release(void*) {}
#endif

namespace megamoe {

struct Threads::Arena {
  explicit Arena(int count) : arena(count) {
    if (count > tbb::info::default_concurrency())
      more_than_cores.emplace(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(count));
    arena.initialize();
  }
  std::optional<tbb::global_control> more_than_cores;  // oneTBB never makes more threads than cores unasked
  tbb::task_arena arena;
};

Threads::Threads(int count) : count_(count) {
  if (count < 0) throw Error(Code::kInvalidArgument, "threads: asked ", count, ", accepted: 0 (all) or more");
  if (count_ == 0) count_ = tbb::info::default_concurrency();
  arena_ = std::make_unique<Arena>(count_);
}

Threads::~Threads() = default;
Threads::Threads(Threads&&) noexcept = default;
Threads& Threads::operator=(Threads&&) noexcept = default;

void Threads::run(std::int64_t steps, Step step, const void* context) const {
  if (count_ == 1) {
    for (std::int64_t i = 0; i < steps; ++i) step(context, i, 0);
    return;
  }
  char fork = 0;  // only their addresses matter
  char join = 0;
  __tsan_release(&fork);
  arena_->arena.execute([&] {
    tbb::parallel_for(std::int64_t{0}, steps, [&](std::int64_t i) {
      __tsan_acquire(&fork);
      step(context, i, tbb::this_task_arena::current_thread_index());
      __tsan_release(&join);
    });
  });
  __tsan_acquire(&join);
}

}  // namespace megamoe
