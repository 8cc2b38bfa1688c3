#include "bench/compute_probe.h"

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <chrono>
#include <cstdint>

namespace megamoe::bench {
namespace {

// Instructions that one call of a loop executes, and the operations of each.
struct Peak {
  std::string_view instruction;
  void (*loop)() = nullptr;
  double operations = 0;  // of one call
};

constexpr int kTurns = 20'000;  // of a loop, about 60 us
constexpr int kSums = 12;       // independent sums: more than latency times throughput of any machine seen
constexpr int kPieces = 160;    // calls a thread, claimed one by one: a thread that is held up leaves them to others

#if defined(__x86_64__)

// Written in the assembler, so that no compiler combines or drops what is to be measured.
#define MEGAMOE_PEAK_LOOP(name, features, bytes, instruction)                                                      \
  __attribute__((target(features))) void name() {                                                                  \
    typedef int Vector __attribute__((vector_size(bytes)));                                                        \
    const Vector a{};                                                                                              \
    const Vector b{};                                                                                              \
    Vector s0{}, s1{}, s2{}, s3{}, s4{}, s5{}, s6{}, s7{}, s8{}, s9{}, s10{}, s11{};                               \
    for (int i = 0; i < kTurns; ++i)                                                                               \
      asm volatile(instruction                                                                                     \
                   " %12, %13, %0\n\t" instruction " %12, %13, %1\n\t" instruction " %12, %13, %2\n\t" instruction \
                   " %12, %13, %3\n\t" instruction " %12, %13, %4\n\t" instruction " %12, %13, %5\n\t" instruction \
                   " %12, %13, %6\n\t" instruction " %12, %13, %7\n\t" instruction " %12, %13, %8\n\t" instruction \
                   " %12, %13, %9\n\t" instruction " %12, %13, %10\n\t" instruction " %12, %13, %11"               \
                   : "+v"(s0), "+v"(s1), "+v"(s2), "+v"(s3), "+v"(s4), "+v"(s5), "+v"(s6), "+v"(s7), "+v"(s8),     \
                     "+v"(s9), "+v"(s10), "+v"(s11)                                                                \
                   : "v"(a), "v"(b));                                                                              \
  }

MEGAMOE_PEAK_LOOP(loop_vpdpbusd, "avx512f,avx512vl", 64, "vpdpbusd")
MEGAMOE_PEAK_LOOP(loop_vdpbf16ps, "avx512f,avx512vl", 64, "vdpbf16ps")
MEGAMOE_PEAK_LOOP(loop_vpmaddubsw, "avx2", 32, "vpmaddubsw")
MEGAMOE_PEAK_LOOP(loop_fma, "avx2,fma", 32, "vfmadd231ps")
#undef MEGAMOE_PEAK_LOOP

constexpr double of_call(int operations) { return static_cast<double>(kTurns) * kSums * operations; }

Peak int8_peak() {
  if (__builtin_cpu_supports("avx512vnni")) return {"vpdpbusd, 512 bits", loop_vpdpbusd, of_call(128)};
  // Its pairs are 16-bit sums, which a kernel still has to widen.
  if (__builtin_cpu_supports("avx2")) return {"vpmaddubsw, 256 bits", loop_vpmaddubsw, of_call(64)};
  return {};
}

Peak bf16_peak() {
  if (__builtin_cpu_supports("avx512bf16")) return {"vdpbf16ps, 512 bits", loop_vdpbf16ps, of_call(64)};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return {"f32 vfmadd231ps, 256 bits", loop_fma, of_call(16)};
  return {};
}

#else

Peak int8_peak() { return {}; }
Peak bf16_peak() { return {}; }

#endif

double measure(const Peak& peak, int threads) {
  if (peak.loop == nullptr) return 0.0;
  tbb::task_arena arena(threads);
  const int pieces = kPieces * threads;
  const auto start = std::chrono::steady_clock::now();
  arena.execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<int>(0, pieces, 1),
        [&](const tbb::blocked_range<int>& range) {
          for (int i = range.begin(); i != range.end(); ++i) peak.loop();
        },
        tbb::simple_partitioner());
  });
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return peak.operations * pieces / took.count();
}

}  // namespace

ComputeProbe::ComputeProbe(int threads) : threads_(threads > 0 ? threads : tbb::this_task_arena::max_concurrency()) {}

double ComputeProbe::int8_once() const { return measure(int8_peak(), threads_); }
double ComputeProbe::bf16_once() const { return measure(bf16_peak(), threads_); }

std::string_view ComputeProbe::int8_instruction() { return int8_peak().instruction; }
std::string_view ComputeProbe::bf16_instruction() { return bf16_peak().instruction; }

}  // namespace megamoe::bench
