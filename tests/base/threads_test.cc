#include "base/threads.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <span>
#include <vector>

#include "megamoe/error.h"

namespace megamoe {
namespace {

// Plain memory on purpose: under ThreadSanitizer this fails if a loop does not order what is before and after it.
TEST(threads, loops_see_what_earlier_loops_wrote) {
  for (const int count : {1, 2, 4}) {
    const Threads threads(count);
    std::vector<std::int64_t> first(10000), second(first.size());
    const auto size = static_cast<std::int64_t>(first.size());
    for (int round = 0; round < 20; ++round) {
      threads.each(size, [&](std::int64_t i, int) { first[static_cast<std::size_t>(i)] = i * round; });
      threads.each(size, [&](std::int64_t i, int) {
        second[static_cast<std::size_t>(i)] = first[static_cast<std::size_t>(size - 1 - i)];
      });
      for (std::int64_t i = 0; i < size; ++i) ASSERT_EQ(second[static_cast<std::size_t>(i)], (size - 1 - i) * round);
    }
  }
}

TEST(threads, each_step_runs_once) {
  const Threads threads(4);
  std::vector<std::atomic<int>> calls(1000);
  threads.each(1000, [&](std::int64_t i, int) { ++calls[static_cast<std::size_t>(i)]; });
  for (const auto& call : calls) EXPECT_EQ(call, 1);
  threads.each(0, [](std::int64_t, int) { FAIL() << "a loop of no steps ran one"; });
}

// Ranges of no step, of one, and more workers than ranges; some steps take long, so that others are taken over.
TEST(threads, each_step_runs_once_whatever_the_numbers) {
  for (const int count : {2, 3, 5, 70}) {
    const Threads threads(count);
    for (const std::int64_t steps : {1, 2, 3, 63, 64, 65, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(steps));
      threads.each(steps, [&](std::int64_t i, int) {
        for (std::atomic<int> spin = 0; i % 97 == 0 && spin < 10000;) ++spin;
        ++calls[static_cast<std::size_t>(i)];
      });
      for (const auto& call : calls) ASSERT_EQ(call, 1) << count << " threads, " << steps << " steps";
    }
  }
}

TEST(threads, workers_are_below_the_count_and_never_shared) {
  const Threads threads(3);
  std::vector<std::atomic<int>> busy(3);
  threads.each(2000, [&](std::int64_t, int worker) {
    ASSERT_GE(worker, 0);
    ASSERT_LT(worker, 3);
    EXPECT_EQ(busy[static_cast<std::size_t>(worker)].fetch_add(1), 0);
    busy[static_cast<std::size_t>(worker)].fetch_sub(1);
  });
}

TEST(threads, exception_of_a_step_comes_back) {
  const Threads threads(2);
  EXPECT_THROW(threads.each(100,
                            [](std::int64_t i, int) {
                              if (i == 50) throw Error(Code::kInternal, "step 50");
                            }),
               Error);
}

// Arenas as for two or three nodes, wherever their workers really run.
TEST(threads, arenas_of_nodes_share_one_loop) {
  const std::array<NumaNode, 3> nodes{{{-1, 2}, {-1, 3}, {-1, 2}}};
  for (const std::size_t count : {2, 3}) {
    const Threads threads(std::span<const NumaNode>(nodes.data(), count));
    EXPECT_EQ(threads.count(), count == 2 ? 5 : 7);
    std::vector<std::atomic<int>> busy(static_cast<std::size_t>(threads.count()));
    for (int round = 0; round < 50; ++round) {
      std::vector<int> calls(1000);  // plain: what a loop wrote is seen after it
      threads.each(1000, [&](std::int64_t i, int worker) {
        ASSERT_LT(worker, threads.count());
        EXPECT_EQ(busy[static_cast<std::size_t>(worker)].fetch_add(1), 0);
        ++calls[static_cast<std::size_t>(i)];
        busy[static_cast<std::size_t>(worker)].fetch_sub(1);
      });
      for (const int call : calls) ASSERT_EQ(call, 1);
    }
    for (const std::int64_t bad : {0, 500, 999})
      EXPECT_THROW(threads.each(1000,
                                [&](std::int64_t i, int) {
                                  if (i == bad) throw Error(Code::kInternal, "step");
                                }),
                   Error);
  }
  EXPECT_THROW(Threads{std::span<const NumaNode>()}, Error);
  const std::array<NumaNode, 2> one_worker{{{-1, 2}, {-1, 1}}};
  EXPECT_THROW(Threads{std::span<const NumaNode>(one_worker)}, Error);
}

TEST(threads, counts) {
  EXPECT_EQ(Threads(3).count(), 3);
  EXPECT_GE(Threads().count(), 1);
  EXPECT_THROW(Threads(-1), Error);
  EXPECT_THROW(Threads(2).each(std::int64_t{1} << 32, [](std::int64_t, int) { throw 0; }), Error);
}

}  // namespace
}  // namespace megamoe
