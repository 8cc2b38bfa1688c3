// A fixed number of threads and one way to use them: a loop over independent steps.
//
//   const Threads threads(4);                                  // once, when a plan is made
//   threads.each(tiles, [&](std::int64_t tile, int worker) { ... });   // allocates nothing of its own
//
// The order of steps is not fixed, so a step writes only what no other step of the loop reads or writes. Worker w
// begins with steps w / count of the way through, and takes others when it is through with those.
//
// Where all cores of a machine with several NUMA nodes are asked for, each node has an arena of workers that stay on
// it, and workers are numbered node by node. So memory that one loop over experts was first to write lies where later
// loops over them begin.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace megamoe {

struct NumaNode {
  int id;     // oneTBB's; -1: any
  int count;  // workers on it
};

class Threads {
 public:
  explicit Threads(int count = 0);  // 0: as many as this process may run on; throws kInvalidArgument if negative
  explicit Threads(std::span<const NumaNode> nodes);  // 1 to 16 of at least 2 workers; otherwise kInvalidArgument
  ~Threads();
  Threads(Threads&&) noexcept;
  Threads& operator=(Threads&&) noexcept;

  int count() const noexcept { return count_; }

  // Calls body(step, worker) once for every step of [0, steps), 0 <= worker < count(), and waits for all of them.
  // kInvalidArgument for 2^32 steps or more.
  // Two calls that run at the same time have different workers. An exception of the body ends the loop and comes
  // back from here.
  template <class Body>
  void each(std::int64_t steps, const Body& body) const {
    run(
        steps,
        [](const void* context, std::int64_t step, int worker) { (*static_cast<const Body*>(context))(step, worker); },
        &body);
  }

 private:
  using Step = void (*)(const void* context, std::int64_t step, int worker);
  struct Arena;

  void run(std::int64_t steps, Step step, const void* context) const;

  std::unique_ptr<Arena> arena_;
  int count_;
};

}  // namespace megamoe
