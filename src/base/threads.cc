// The only file that sees oneTBB. ThreadSanitizer cannot look into its shared library, so the sanitizer build leaves
// this file uninstrumented (src/base/CMakeLists.txt) and is told here what a loop orders: everything before it,
// then the steps, then everything after it.
#include "base/threads.h"

#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <atomic>
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
namespace {

// The steps of a loop, in one range for each worker. A worker goes through its own in order, because steps that follow
// each other read memory that does; when it is through, it takes the back half of what another one has left.
class Ranges {
 public:
  Ranges(std::int64_t steps, int workers) : count_(std::min(workers, kMost)) {
    for (int i = 0; i < count_; ++i) set(i, steps * i / count_, steps * (i + 1) / count_);
  }

  // Calls step(i) for steps until none is left that nobody has begun.
  template <class Step>
  void work(int worker, const Step& step) {
    const int own = worker % count_;
    do {
      for (std::int64_t i; (i = next(own)) >= 0;) step(i);
    } while (steal(own));
  }

  void drop_all() {
    for (int i = 0; i < count_; ++i) set(i, 0, 0);
  }

 private:
  static constexpr int kMost = 64;  // more workers than that share ranges

  // Begin and end, 32 bits each. No pair comes back once it has changed, so comparing it is comparing its history.
  struct alignas(64) Range {
    std::atomic<std::uint64_t> ends;
  };

  static std::uint64_t begin_of(std::uint64_t ends) { return ends >> 32; }
  static std::uint64_t end_of(std::uint64_t ends) { return ends & 0xFFFFFFFFu; }
  static std::uint64_t ends_of(std::uint64_t begin, std::uint64_t end) { return begin << 32 | end; }

  void set(int i, std::int64_t begin, std::int64_t end) {
    ranges_[static_cast<std::size_t>(i)].ends =
        ends_of(static_cast<std::uint64_t>(begin), static_cast<std::uint64_t>(end));
  }

  std::int64_t next(int own) {
    std::atomic<std::uint64_t>& range = ranges_[static_cast<std::size_t>(own)].ends;
    std::uint64_t ends = range;
    while (begin_of(ends) < end_of(ends))
      if (range.compare_exchange_weak(ends, ends_of(begin_of(ends) + 1, end_of(ends))))
        return static_cast<std::int64_t>(begin_of(ends));
    return -1;
  }

  bool steal(int own) {
    for (int i = 1; i < count_; ++i) {
      std::atomic<std::uint64_t>& range = ranges_[static_cast<std::size_t>((own + i) % count_)].ends;
      std::uint64_t ends = range;
      while (begin_of(ends) < end_of(ends)) {
        const std::uint64_t middle = begin_of(ends) + (end_of(ends) - begin_of(ends)) / 2;
        if (!range.compare_exchange_weak(ends, ends_of(begin_of(ends), middle))) continue;
        ranges_[static_cast<std::size_t>(own)].ends = ends_of(middle, end_of(ends));
        return true;
      }
    }
    return false;
  }

  int count_;
  std::array<Range, kMost> ranges_;
};

}  // namespace

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
  Ranges ranges(steps, count_);
  arena_->arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<int>(0, count_, 1),
        [&](const tbb::blocked_range<int>&) {
          const int worker = tbb::this_task_arena::current_thread_index();
          try {
            ranges.work(worker, [&](std::int64_t i) {
              __tsan_acquire(&fork);
              step(context, i, worker);
              __tsan_release(&join);
            });
          } catch (...) {
            ranges.drop_all();
            throw;
          }
        },
        tbb::simple_partitioner());
  });
  __tsan_acquire(&join);
}

}  // namespace megamoe
