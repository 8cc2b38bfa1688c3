// What `bench` found, as tables, as JSON and as comma-separated values.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/cuda_floors.h"
#include "bench/layer_timer.h"

namespace megamoe::cli {

struct BenchResult {
  std::string routing;
  std::int64_t verified_tokens = 0;  // of the timed batch, by the oracle
  bench::Measurement measured;
};

struct BenchRecord {
  std::string problem;
  std::string shape;  // empty where the problem was given as text
  std::string backend;
  std::string plan;
  int threads = 0;
  std::size_t prepared_bytes = 0;
  int rounds = 0;                             // on the host
  std::optional<bench::DeviceFloors> floors;  // where a device computes
  std::string graph;                          // there: what a captured graph holds
  std::vector<BenchResult> results;
};

void print_bench(const BenchRecord& record);
nlohmann::json bench_json(const BenchRecord& record);
void print_bench_csv(const BenchRecord& record);

}  // namespace megamoe::cli
