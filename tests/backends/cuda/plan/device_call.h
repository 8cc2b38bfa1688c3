// Calls of a Hopper plan with arrays that stay on the device, for tests of what lies between two runs: other inputs in
// the same buffers, stale workspaces, streams, graphs. Nothing here waits for the device unless it says so.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backends/cuda/sm90/choose.h"
#include "backends/cuda/sm90/sm90.h"
#include "bench/cuda_handles.h"
#include "megamoe/buffer.h"
#include "megamoe/moe.h"
#include "support/test_case.h"

namespace megamoe::sm90::test {

using bench::CudaStream;
using megamoe::test::Case;

// Skipped, with the backend's reason, where no H100 or H200 is.
class OnHopper : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = sm90_backend().absence(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

std::shared_ptr<const PreparedWeights> prepared(const Problem& problem, const ExpertSource& source);

// The best of those that compute on the host.
std::string_view host_backend(const Problem& problem);

// Plans that are made while this lives take one kernel for every number of tokens.
class ForcedKernel {
 public:
  explicit ForcedKernel(const Kernel& kernel);
  ~ForcedKernel();
  ForcedKernel(const ForcedKernel&) = delete;
  ForcedKernel& operator=(const ForcedKernel&) = delete;
};

// What a plan takes for so many tokens where nothing is forced.
const Kernel& chosen_kernel(const Problem& problem, std::int64_t tokens);

// The inputs of at most so many tokens, at one place whatever they are.
class DeviceInputs {
 public:
  DeviceInputs(const Problem& problem, std::int64_t max_tokens);
  explicit DeviceInputs(const Case& c) : DeviceInputs(c.test.problem, c.test.tokens) { write(c); }

  void write(const Case& c);                // its weights are not looked at; waits for the device
  RunArgs args(std::int64_t tokens) const;  // of the first tokens; no output and no workspace
  std::uint16_t* x() const { return x_.as<std::uint16_t>().data(); }

 private:
  std::int64_t hidden_, top_k_;
  Buffer x_, topk_ids_, topk_weights_;
};

// Finds the first byte that differs in a series of comparisons on the device.
class Differences {
 public:
  Differences();

  // `index` names the comparison, below 2^23. Arrays of fewer than 2^40 bytes.
  void compare(const void* a, const void* b, std::size_t bytes, std::int64_t index, cudaStream_t stream);
  // Waits for the device. Empty where nothing differed, else "byte 17 of comparison 3"; with `columns` of bf16 a row,
  // "row 2, column 5 of comparison 3".
  std::string first(std::int64_t columns = 0) const;

 private:
  Buffer first_;
};

// Memory between canaries that begins at an odd place, laid again for each run.
class GuardedBlock {
 public:
  // For at most so many bytes, that begin `skew` past a multiple of 256.
  explicit GuardedBlock(std::size_t most_bytes, std::size_t skew = 1);

  // `bytes` bytes of poison with canaries before and behind them, in the order of `stream`.
  std::span<std::byte> lay(std::size_t bytes, std::uint8_t poison, cudaStream_t stream);
  template <class T>
  std::span<T> lay_array(std::int64_t count, std::uint8_t poison, cudaStream_t stream) {
    const std::span<std::byte> bytes = lay(static_cast<std::size_t>(count) * sizeof(T), poison, stream);
    return {reinterpret_cast<T*>(bytes.data()), static_cast<std::size_t>(count)};
  }
  std::byte* begin() const { return block_.data() + kGuard + skew_; }  // of what was laid last
  // Compares the canaries with what they were.
  void compare_canaries(Differences& differences, std::int64_t index, cudaStream_t stream) const;

 private:
  static constexpr std::size_t kGuard = 4096;

  std::size_t skew_;
  std::size_t bytes_ = 0;
  Buffer block_;
  Buffer canaries_;
};

// NaN as E4M3 and large as f32, NaN as f32, small integers.
inline constexpr std::uint8_t kPoisons[] = {0x7F, 0xFF, 0x01};

template <class T>
std::vector<T> downloaded(std::span<const T> device) {
  std::vector<T> values(device.size());
  cuda_check(cudaDeviceSynchronize(), "waiting for the device");
  cuda_check(cudaMemcpy(values.data(), device.data(), device.size_bytes(), cudaMemcpyDeviceToHost), "download");
  return values;
}

// How often a repeated run is compared: MEGAMOE_RERUNS, or `otherwise`.
int repeats(int otherwise = 500);

}  // namespace megamoe::sm90::test
