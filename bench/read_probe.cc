#include "bench/read_probe.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include "megamoe/error.h"

namespace megamoe::bench {
namespace {

// Independent sums: two cache lines of 16-byte vectors, which is what fits the registers of the x86-64 baseline. From
// the L2 cache this loop reads 43 GB/s a thread (Zen 3), so that memory sets what is measured and not the adding; the
// same loop over memcpy'd arrays read 18.
constexpr std::size_t kSums = 16;
// Threads claim chunks: where a thread is held up by other work, the others read on, as they do in a layer.
constexpr std::size_t kChunk = std::size_t{4} << 20;
// Every byte is 1. Comparing the sums also keeps the compiler from dropping the reads.
constexpr std::size_t kChunkWords = kChunk / sizeof(std::uint64_t);
constexpr std::uint64_t kChunkSum = kChunkWords * 0x0101010101010101u;
static_assert(kChunkWords % kSums == 0);

std::uint64_t sum_of(const std::uint64_t* words, std::size_t count) {
  std::array<std::uint64_t, kSums> sums{};
  for (std::size_t at = 0; at < count; at += kSums)
    for (std::size_t i = 0; i < kSums; ++i) sums[i] += words[at + i];
  std::uint64_t sum = 0;
  for (const std::uint64_t part : sums) sum += part;
  return sum;
}

}  // namespace

std::size_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  std::size_t kib = 0;
  for (std::string unit; file >> key >> kib; std::getline(file, unit))
    if (key == "MemAvailable:") return kib * 1024;
  return 0;
}

ReadProbe::ReadProbe(std::size_t bytes, int threads)
    : memory_(bytes), threads_(threads > 0 ? threads : tbb::this_task_arena::max_concurrency()) {
  std::memset(memory_.bytes().data(), 1, bytes);
}

double ReadProbe::read_once() {
  const std::size_t chunks = memory_.bytes().size() / kChunk;
  const auto* words = reinterpret_cast<const std::uint64_t*>(memory_.bytes().data());
  std::atomic<std::size_t> wrong = 0;
  tbb::task_arena arena(threads_);
  const auto start = std::chrono::steady_clock::now();
  arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<std::size_t>(0, chunks, 1),
        [&](const tbb::blocked_range<std::size_t>& range) {
          for (std::size_t i = range.begin(); i != range.end(); ++i)
            if (sum_of(words + i * kChunkWords, kChunkWords) != kChunkSum) ++wrong;
        },
        tbb::simple_partitioner());
  });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (wrong != 0) throw Error(Code::kInternal, "read probe: a pass did not read what was written");
  return static_cast<double>(chunks * kChunk) / took.count();
}

}  // namespace megamoe::bench
