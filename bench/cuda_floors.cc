#include "bench/cuda_floors.h"

#include <array>
#include <string>

#include "bench/cuda_probes.h"
#include "bench/cuda_repeat.h"
#include "bench/layer_timer.h"
#include "megamoe/buffer.h"

namespace megamoe::bench {
namespace {

constexpr std::size_t kProbeBytes = std::size_t{8} << 30;
constexpr double kWarmUpSeconds = 0.3;
constexpr int kSamples = 9;
constexpr std::array<int, 4> kBlocksOfMultiprocessor{1, 2, 3, 4};  // the best of them is the floor

// 8 GiB, or half of what is free where that is less.
std::size_t probe_bytes() {
  std::size_t free = 0, total = 0;
  cuda_check(cudaMemGetInfo(&free, &total), "memory of the device");
  return std::min(kProbeBytes, free / 2) / (2 * kReadPiece) * (2 * kReadPiece);
}

double rate(double work, const std::vector<double>& seconds) { return work / median(seconds); }

void measure_memory(int multiprocessors, DeviceFloors& floors) {
  Buffer memory(MemoryKind::kCuda, probe_bytes());
  Buffer sink(MemoryKind::kCuda, sizeof(std::uint32_t));
  const CudaStream stream;
  const auto bytes = static_cast<double>(memory.size());
  fill_random(memory.as<std::byte>(), 1, stream.get());

  double warm_up = kWarmUpSeconds;
  for (const int blocks : kBlocksOfMultiprocessor) {
    const auto seconds = sustained_times(stream, warm_up, kSamples, [&] {
      read_all(memory.as<const std::byte>(), blocks * multiprocessors, sink.as<std::uint32_t>().data(), stream.get());
    });
    floors.read_bytes_per_s = std::max(floors.read_bytes_per_s, rate(bytes, seconds));
    warm_up = kWarmUpSeconds / 4;  // it is warm
  }
  floors.read_bytes = static_cast<std::int64_t>(memory.size());

  const std::size_t half = memory.size() / 2;
  floors.copy_bytes_per_s = rate(
      bytes, sustained_times(stream, warm_up, kSamples, [&] {
        cuda_check(cudaMemcpyAsync(memory.data() + half, memory.data(), half, cudaMemcpyDeviceToDevice, stream.get()),
                   "copy");
      }));
}

}  // namespace

DeviceFloors measure_device_floors(double bf16_tflops) {
  int index = 0;
  cudaDeviceProp properties{};
  cuda_check(cudaGetDevice(&index), "current device");
  cuda_check(cudaGetDeviceProperties(&properties, index), "properties of the device");
  DeviceFloors floors;
  floors.device = std::string(properties.name) + ", " + std::to_string(properties.multiProcessorCount) + " SMs, " +
                  std::to_string(properties.l2CacheSize >> 20) + " MiB L2";
  floors.cache_bytes = static_cast<std::size_t>(properties.l2CacheSize);
  measure_memory(properties.multiProcessorCount, floors);
  if (bf16_tflops > 0.0) {
    floors.bf16_flops_per_s = bf16_tflops * 1e12;
    floors.bf16_source = "given";
    return floors;
  }
  const MatmulRate matmul = measure_bf16_matmul();
  floors.bf16_flops_per_s = matmul.flops_per_s;
  floors.bf16_source = matmul.source;
  return floors;
}

}  // namespace megamoe::bench
