#include <span>

#include "backends/cuda/sm90/epilogue.cuh"
#include "backends/cuda/sm90/every_gate.h"
#include "base/cuda_check.h"
#include "megamoe/buffer.h"

namespace megamoe::sm90::test {
namespace {

constexpr int kThreads = 256;
constexpr int kGates = 8;                       // of a thread at a time, as in the loop
constexpr std::uint32_t kLargest = 0x42200000;  // 40.0f
constexpr std::uint32_t kSign = 0x80000000;

// Gate `index` of 2 * kLargest + 1: 0, then positive and negative ones by turns.
__device__ float gate_at(std::uint64_t index) {
  const auto bits = static_cast<std::uint32_t>((index + 1) / 2);
  return __uint_as_float(index % 2 != 0 ? bits : bits == 0 ? 0 : bits | kSign);
}

__global__ void compare(EveryGate* out) {
  constexpr std::uint64_t kAll = 2 * std::uint64_t{kLargest} + 1;
  const Activation activation;
  const std::uint64_t step = std::uint64_t{gridDim.x} * kThreads * kGates;
  std::uint64_t compared = 0;
  // All lanes of a warp come as often: activate_all wants them together.
  for (std::uint64_t begin = 0; begin < kAll; begin += step) {
    float gate[kGates], up[kGates], given[kGates];
    for (int i = 0; i < kGates; ++i) {
      const std::uint64_t index = begin + (std::uint64_t{blockIdx.x} * kThreads + threadIdx.x) * kGates + i;
      gate[i] = given[i] = gate_at(index < kAll ? index : 0);
      up[i] = 1.0f;
      compared += index < kAll;
    }
    activate_all<true>(activation, gate, up, [](int) { return true; });
    for (int i = 0; i < kGates; ++i) {
      if (__float_as_uint(gate[i]) == __float_as_uint(activate(activation, given[i], 1.0f))) continue;
      atomicAdd(reinterpret_cast<unsigned long long*>(&out->wrong), 1ull);
      out->first_wrong = given[i];
    }
  }
  atomicAdd(reinterpret_cast<unsigned long long*>(&out->compared), static_cast<unsigned long long>(compared));
}

}  // namespace

EveryGate compare_every_gate() {
  Buffer buffer(MemoryKind::kCuda, sizeof(EveryGate));
  EveryGate result;
  buffer.upload(std::as_bytes(std::span(&result, 1)));
  compare<<<1024, kThreads>>>(reinterpret_cast<EveryGate*>(buffer.data()));
  cuda_check(cudaGetLastError(), "compare every gate");
  buffer.download(std::as_writable_bytes(std::span(&result, 1)));
  return result;
}

}  // namespace megamoe::sm90::test
