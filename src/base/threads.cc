// The only file that sees oneTBB. ThreadSanitizer cannot look into its shared library, so the sanitizer build leaves
// this file uninstrumented (src/base/CMakeLists.txt) and is told here what a loop orders: everything before it,
// then the steps, then everything after it.
#include "base/threads.h"

#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <exception>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "megamoe/error.h"

#if defined(MEGAMOE_THREAD_SANITIZER) || defined(__SANITIZE_ADDRESS__)
#define MEGAMOE_SANITIZED
#endif

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
  static constexpr std::int64_t kMostSteps = 0xFFFFFFFF;

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

constexpr int kAnyNode = -1;

// The arenas of all nodes; one where nothing is known of nodes.
struct Threads::Arena {
  static constexpr std::size_t kMostNodes = 16;
  // Of a node: oneTBB makes room for two in an arena of one, and the second would be another node's first.
  static constexpr int kFewestWorkers = 2;

  static bool takes(std::span<const NumaNode> nodes) {
    return !nodes.empty() && nodes.size() <= kMostNodes &&
           std::all_of(nodes.begin(), nodes.end(), [](const NumaNode& node) { return node.count >= kFewestWorkers; });
  }

  struct Node {
    tbb::task_arena arena;
    int first_worker;
    int count;
  };

  Arena(std::span<const NumaNode> of, int count) {
    if (count > tbb::info::default_concurrency())
      more_than_cores.emplace(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(count));
    nodes.reserve(of.size());  // a copy of an arena would have to be initialised again
    int first_worker = 0;
    for (const NumaNode& node : of) {
      nodes.push_back({arena_on(node, nodes.empty() ? 1 : 0), first_worker, node.count});
      nodes.back().arena.initialize();
      first_worker += node.count;
    }
  }

  // `own` places are kept for threads that call. They work on the first node: a place kept for them elsewhere would be
  // a core without a worker.
  static tbb::task_arena arena_on(const NumaNode& node, unsigned own) {
    if (node.id == kAnyNode) return tbb::task_arena(node.count, own);
    return tbb::task_arena(tbb::task_arena::constraints().set_numa_id(node.id).set_max_concurrency(node.count), own);
  }

  // Calls body(worker) in one task for each worker of a node; returns when all have.
  template <class Body>
  static void on_node(const Node& node, const Body& body) {
    tbb::parallel_for(
        tbb::blocked_range<int>(0, node.count, 1),
        [&](const tbb::blocked_range<int>&) { body(node.first_worker + tbb::this_task_arena::current_thread_index()); },
        tbb::simple_partitioner());
  }

  // The same on all nodes. The calling thread works on the first one, and then where others are not done.
  template <class Body>
  void on_all(const Body& body) {
    if (nodes.size() == 1) return nodes[0].arena.execute([&] { on_node(nodes[0], body); });
    std::array<tbb::task_group, kMostNodes> groups;
    for (std::size_t n = 1; n < nodes.size(); ++n)
      nodes[n].arena.execute([&] { groups[n].run([&, n] { on_node(nodes[n], body); }); });
    std::exception_ptr failure;
    const auto keep_failure = [&](const auto& wait) {
      try {
        wait();
      } catch (...) {
        failure = std::current_exception();
      }
    };
    nodes[0].arena.execute([&] { keep_failure([&] { on_node(nodes[0], body); }); });
    for (std::size_t n = 1; n < nodes.size(); ++n)
      nodes[n].arena.execute([&] { keep_failure([&] { groups[n].wait(); }); });
    if (failure) std::rethrow_exception(failure);
  }

  std::optional<tbb::global_control> more_than_cores;  // oneTBB never makes more threads than cores unasked
  std::vector<Node> nodes;
};

namespace {

// oneTBB asks hwloc through a library that it loads when it is first asked: some milliseconds, and sanitizers refuse
// the way it is loaded. So the system is asked first.
bool has_several_nodes() {
#if defined(MEGAMOE_SANITIZED)
  return false;
#else
  std::ifstream file("/sys/devices/system/node/has_cpu");  // "0", "0-1", "0,2"
  std::string nodes;
  file >> nodes;
  return nodes.find_first_of("-,") != std::string::npos;
#endif
}

std::vector<NumaNode> nodes_of_machine() {
  std::vector<NumaNode> nodes;
  for (const tbb::numa_node_id id : tbb::info::numa_nodes())
    nodes.push_back({static_cast<int>(id), tbb::info::default_concurrency(id)});
  return nodes;
}

int workers_of(std::span<const NumaNode> nodes) {
  int count = 0;
  for (const NumaNode& node : nodes) count += node.count;
  return count;
}

}  // namespace

Threads::Threads(int count) : count_(count) {
  if (count < 0) throw Error(Code::kInvalidArgument, "threads: asked ", count, ", accepted: 0 (all) or more");
  const int all = tbb::info::default_concurrency();
  if (count_ == 0) count_ = all;
  std::vector<NumaNode> nodes;
  if (count_ == all && has_several_nodes()) nodes = nodes_of_machine();
  if (workers_of(nodes) != all || !Arena::takes(nodes)) nodes = {{kAnyNode, count_}};
  arena_ = std::make_unique<Arena>(nodes, count_);
}

Threads::Threads(std::span<const NumaNode> nodes) : count_(workers_of(nodes)) {
  if (!Arena::takes(nodes))
    throw Error(Code::kInvalidArgument, "threads: asked ", nodes.size(), " nodes, ", count_,
                " workers, accepted: 1 to ", Arena::kMostNodes, " nodes of ", Arena::kFewestWorkers,
                " workers or more");
  arena_ = std::make_unique<Arena>(nodes, count_);
}

Threads::~Threads() = default;
Threads::Threads(Threads&&) noexcept = default;
Threads& Threads::operator=(Threads&&) noexcept = default;

void Threads::run(std::int64_t steps, Step step, const void* context) const {
  if (steps > Ranges::kMostSteps)
    throw Error(Code::kInvalidArgument, "threads: asked ", steps, " steps, accepted: up to ", Ranges::kMostSteps);
  if (count_ == 1) {
    for (std::int64_t i = 0; i < steps; ++i) step(context, i, 0);
    return;
  }
  char fork = 0;  // only their addresses matter
  char join = 0;
  __tsan_release(&fork);
  Ranges ranges(steps, count_);
  const auto work = [&](int worker) {
    try {
      ranges.work(worker, [&](std::int64_t i) {
        __tsan_acquire(&fork);
        step(context, i, worker);
        __tsan_release(&join);
      });
    } catch (...) {
      ranges.drop_all();
      __tsan_release(&join);
      throw;
    }
  };
  try {
    arena_->on_all(work);
  } catch (...) {
    __tsan_acquire(&join);
    throw;
  }
  __tsan_acquire(&join);
}

}  // namespace megamoe
