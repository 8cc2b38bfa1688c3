#include <span>

#include "backends/cuda/sm90/activate.cuh"
#include "backends/cuda/sm90/every_gate.h"
#include "base/cuda_check.h"
#include "megamoe/buffer.h"

namespace megamoe::sm90::test {
namespace {

constexpr int kBlocks = 1024;
constexpr int kThreads = 256;
constexpr int kGates = 8;  // of a thread at a time, as in the loop
constexpr std::uint32_t kSign = 0x80000000;
constexpr std::uint32_t kInfinity = 0x7F800000;

// Calls `visit` with kGates indices below `all` at a time, and whether each is: the last ones are not. All lanes of a
// warp come as often: the loop's functions want them together.
template <class Visit>
__device__ void for_each_index(std::uint64_t all, const Visit& visit) {
  const std::uint64_t step = std::uint64_t{gridDim.x} * kThreads * kGates;
  for (std::uint64_t begin = 0; begin < all; begin += step) {
    std::uint64_t index[kGates];
    bool counts[kGates];
    for (int i = 0; i < kGates; ++i) {
      index[i] = begin + (std::uint64_t{blockIdx.x} * kThreads + threadIdx.x) * kGates + i;
      counts[i] = index[i] < all;
      if (!counts[i]) index[i] = 0;
    }
    visit(index, counts);
  }
}

__device__ void add(std::uint64_t* to, std::uint64_t count) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(count));
}

// Gate `index` of 2 * largest + 1: 0, then positive and negative ones by turns.
__device__ float gate_at(std::uint64_t index) {
  const auto bits = static_cast<std::uint32_t>((index + 1) / 2);
  return __uint_as_float(index % 2 != 0 ? bits : bits == 0 ? 0 : bits | kSign);
}

__global__ void compare(EveryGate* out) {
  constexpr std::uint32_t kLargest = 0x42200000;  // 40.0f
  const Activation activation;
  std::uint64_t compared = 0;
  for_each_index(2 * std::uint64_t{kLargest} + 1, [&](const auto& index, const auto& counts) {
    float gate[kGates], up[kGates];
    for (int i = 0; i < kGates; ++i) {
      gate[i] = gate_at(index[i]);
      up[i] = 1.0f;
      compared += counts[i];
    }
    activate_all<true>(activation, gate, up, [](int) { return true; });
    for (int i = 0; i < kGates; ++i) {
      const float given = gate_at(index[i]);
      if (__float_as_uint(gate[i]) == __float_as_uint(activate(activation, given, 1.0f))) continue;
      add(&out->wrong, 1);
      out->first_wrong = given;
    }
  });
  add(&out->compared, compared);
}

// Any float, every second one of a common size.
__device__ float up_of(std::uint32_t gate) {
  std::uint32_t bits = gate * 0x9E3779B1u;  // Knuth's multiplicative hash, then its high bits into the low ones
  bits ^= bits >> 15;
  bits *= 0x85EBCA6Bu;
  bits ^= bits >> 13;
  if ((bits & 1) != 0) bits = (bits & 0x81FFFFFF) + 0x3D800000;  // from 2^-4 to below 1
  return __uint_as_float(bits);
}

__global__ void compare_in_bf16(EveryGate* out) {
  const Activation activation;
  std::uint64_t compared = 0;
  for_each_index(std::uint64_t{1} << 32, [&](const auto& index, const auto& counts) {
    float gate[kGates], up[kGates], given[kGates];
    for (int i = 0; i < kGates; ++i) {
      const auto bits = static_cast<std::uint32_t>(index[i]);
      gate[i] = given[i] = __uint_as_float(bits == kSign ? 0 : bits);
      up[i] = up_of(bits);
      compared += counts[i] && bits != kSign;
    }
    activate_for_bf16(activation, gate, up);
    for (int i = 0; i < kGates; ++i) {
      const float wanted = activate(activation, given[i], up[i]);
      if (ptx::pack_bf16(gate[i], 0) == ptx::pack_bf16(wanted, 0)) continue;
      add(&out->wrong, 1);
      out->first_wrong = given[i];
    }
  });
  add(&out->compared, compared);
}

__global__ void measure(ApproximateSilu* out) {
  const std::uint64_t positive = std::uint64_t{kInfinity} + 1;  // 0 among them
  const std::uint64_t negative = __float_as_uint(kLeastGate) - kSign;
  const Activation activation;
  std::uint64_t compared = 0;
  double units = 0;
  float farthest = 0;
  for_each_index(positive + negative, [&](const auto& index, const auto& counts) {
    for (int i = 0; i < kGates; ++i) {
      compared += counts[i];
      const float gate = __uint_as_float(
          static_cast<std::uint32_t>(index[i] < positive ? index[i] : kSign + 1 + (index[i] - positive)));
      const float wanted = activate(activation, gate, 1.0f);
      const float got = approximate_silu(gate);
      if (__float_as_uint(got) == __float_as_uint(wanted)) continue;
      if (fabsf(wanted) < 0x1p-126f || isinf(wanted)) {
        add(&out->wrong_subnormals, 1);
        continue;
      }
      const double here = fabs(double{got} / double{wanted} - 1.0) * 0x1p24;
      if (here > units) units = here, farthest = gate;
    }
  });
  add(&out->compared, compared);
  // Doubles of one sign are ordered as their bits are.
  const auto bits = static_cast<unsigned long long>(__double_as_longlong(units));
  if (atomicMax(reinterpret_cast<unsigned long long*>(&out->units), bits) < bits) out->farthest = farthest;
}

template <class Result, class Kernel>
Result result_of(const Kernel& kernel) {
  Buffer buffer(MemoryKind::kCuda, sizeof(Result));
  Result result;
  buffer.upload(std::as_bytes(std::span(&result, 1)));
  kernel<<<kBlocks, kThreads>>>(reinterpret_cast<Result*>(buffer.data()));
  cuda_check(cudaGetLastError(), "a test's kernel");
  buffer.download(std::as_writable_bytes(std::span(&result, 1)));
  return result;
}

}  // namespace

EveryGate compare_every_gate() { return result_of<EveryGate>(compare); }
EveryGate compare_every_gate_in_bf16() { return result_of<EveryGate>(compare_in_bf16); }

ApproximateSilu measure_approximate_silu() {
  ApproximateSilu result = result_of<ApproximateSilu>(measure);
  result.most_units = kMostUnits;
  return result;
}

}  // namespace megamoe::sm90::test
