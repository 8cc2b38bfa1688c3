#include "bench_output.h"

#include <fmt/format.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "machine.h"
#include "output.h"

namespace megamoe::cli {
namespace {

using bench::Measurement;

double weight_rate(const Measurement& m) { return m.weight_bytes / m.median_s; }
double flop_rate(const Measurement& m) { return m.flops / m.median_s; }

// One column of the table.
struct Figure {
  std::string title;
  std::function<std::string(const BenchResult&)> text;
};

template <class Value>  // double(const Measurement&)
Figure figure(std::string title, int digits, Value value) {
  return {std::move(title), [=](const BenchResult& r) { return number(value(r.measured), digits); }};
}

bool has_many_routings(const BenchRecord& record) {
  for (const BenchResult& result : record.results)
    if (result.routing != record.results[0].routing) return true;
  return false;
}

std::vector<Figure> figures(const BenchRecord& record) {
  std::vector<Figure> all{{"tokens", [](const BenchResult& r) { return fmt::format("{}", r.measured.tokens); }}};
  if (has_many_routings(record)) all.push_back({"routing", [](const BenchResult& r) { return r.routing; }});
  const auto time = [&](const char* title, double Measurement::*seconds) {
    all.push_back({title, [=](const BenchResult& r) { return human_time(r.measured.*seconds); }});
  };
  time("median", &Measurement::median_s);
  time("p10", &Measurement::p10_s);
  time("p90", &Measurement::p90_s);
  all.push_back(figure("experts read", 1, [](const Measurement& m) { return m.active_experts; }));
  all.push_back(figure("weights MB", 1, [](const Measurement& m) { return m.weight_bytes * 1e-6; }));
  all.push_back(figure("in and out MB", 1, [](const Measurement& m) { return m.token_bytes * 1e-6; }));
  all.push_back(figure("weights GB/s", 1, [](const Measurement& m) { return weight_rate(m) * 1e-9; }));
  if (!record.floors)
    all.push_back(figure("plain read GB/s", 1, [](const Measurement& m) { return m.read_bytes_per_s * 1e-9; }));
  all.push_back(figure("of read", 2, [](const Measurement& m) { return m.read_share; }));
  if (!record.floors) {
    all.push_back(figure("GFLOP/s", 1, [](const Measurement& m) { return flop_rate(m) * 1e-9; }));
    all.push_back(figure("peak GFLOP/s", 0, [](const Measurement& m) { return m.peak_flops_per_s * 1e-9; }));
    all.push_back(figure("of peak", 2, [](const Measurement& m) { return m.peak_share; }));
    all.push_back({"runs", [](const BenchResult& r) {
                     return fmt::format("{} ({} dropped)", r.measured.repeats, r.measured.dropped);
                   }});
    return all;
  }
  all.push_back(figure("TFLOP/s", 1, [](const Measurement& m) { return flop_rate(m) * 1e-12; }));
  if (record.floors->bf16_flops_per_s > 0.0) {
    all.push_back(figure("of peak", 2, [](const Measurement& m) { return m.peak_share; }));
    all.push_back({"floor", [](const BenchResult& r) { return human_time(r.measured.floor_s()); }});
    all.push_back(figure("of floor", 2, [](const Measurement& m) { return m.floor_s() / m.median_s; }));
  }
  return all;
}

void print_results(const BenchRecord& record) {
  const std::vector<Figure> columns = figures(record);
  std::vector<Column> titles;
  for (const Figure& column : columns) titles.push_back({column.title, Align::kRight});
  Table table(titles);
  for (const BenchResult& result : record.results) {
    std::vector<std::string> cells;
    for (const Figure& column : columns) cells.push_back(column.text(result));
    table.add_row(cells);
  }
  table.print();
}

double sum_of(const std::vector<bench::StageTime>& stages) {
  double sum = 0.0;
  for (const bench::StageTime& stage : stages) sum += stage.median_s;
  return sum;
}

// What a GEMM's stage does a second, times `scale`; nothing of other stages.
std::string stage_rate(const bench::StageTime& stage, double of_layer, double scale) {
  const double part = bench::gemm_share(stage.name);
  return part > 0.0 ? number(part * of_layer / stage.median_s * scale, 1) : "";
}

// One line a result and stage: plans may have other stages for other numbers of tokens.
void print_stages(const BenchRecord& record) {
  const bool host = !record.floors;
  std::vector<Column> columns{{"tokens", Align::kRight},
                              {"routing"},
                              {"stage"},
                              {host ? "time" : "alone", Align::kRight},
                              {"share", Align::kRight}};
  if (host) columns.insert(columns.end(), {{"weights GB/s", Align::kRight}, {"GFLOP/s", Align::kRight}});
  Table table(columns);
  bool any = false;
  for (const BenchResult& result : record.results)
    for (const bench::StageTime& stage : result.measured.stages) {
      std::vector<std::string> cells{fmt::format("{}", result.measured.tokens), result.routing, stage.name,
                                     human_time(stage.median_s),
                                     number(stage.median_s / sum_of(result.measured.stages), 2)};
      if (host) {
        cells.push_back(stage_rate(stage, result.measured.weight_bytes, 1e-9));
        cells.push_back(stage_rate(stage, result.measured.flops, 1e-9));
      }
      table.add_row(cells);
      any = true;
    }
  if (!any) return;
  print_line();
  table.print();
  if (host) return;
  print_line();
  print_line("alone: a stage between two events, without the overlap that it has in a graph; share is of their sum.");
}

std::string floors_text(const bench::DeviceFloors& floors) {
  const std::string matrices =
      floors.bf16_flops_per_s > 0.0
          ? fmt::format("{:.0f} TFLOP/s ({})", floors.bf16_flops_per_s * 1e-12, floors.bf16_source)
          : floors.bf16_source;
  return fmt::format("read {:.0f} GB/s, copy {:.0f} GB/s; BF16 matrices {}", floors.read_bytes_per_s * 1e-9,
                     floors.copy_bytes_per_s * 1e-9, matrices);
}

nlohmann::json stages_json(const std::vector<bench::StageTime>& stages) {
  nlohmann::json all = nlohmann::json::array();
  for (const bench::StageTime& stage : stages)
    all.push_back({{"stage", stage.name}, {"us", stage.median_s * 1e6}, {"share", stage.median_s / sum_of(stages)}});
  return all;
}

nlohmann::json result_json(const BenchResult& result) {
  const Measurement& m = result.measured;
  nlohmann::json json{{"tokens", m.tokens},
                      {"routing", result.routing},
                      {"verified_tokens", result.verified_tokens},
                      {"median_us", m.median_s * 1e6},
                      {"min_us", m.min_s * 1e6},
                      {"p10_us", m.p10_s * 1e6},
                      {"p90_us", m.p90_s * 1e6},
                      {"repeats", m.repeats},
                      {"dropped", m.dropped},
                      {"active_experts", m.active_experts},
                      {"weight_bytes", m.weight_bytes},
                      {"token_bytes", m.token_bytes},
                      {"flops", m.flops},
                      {"weight_gb_per_s", weight_rate(m) * 1e-9},
                      {"read_gb_per_s", m.read_bytes_per_s * 1e-9},
                      {"read_share", m.read_share},
                      {"gflop_per_s", flop_rate(m) * 1e-9},
                      {"stages", stages_json(m.stages)}};
  if (m.int8_ops_per_s > 0.0) json["int8_gop_per_s"] = m.int8_ops_per_s * 1e-9;
  if (m.bf16_flops_per_s > 0.0) json["bf16_gflop_per_s"] = m.bf16_flops_per_s * 1e-9;
  if (m.peak_flops_per_s > 0.0) {
    json["peak_share"] = m.peak_share;
    json["floor_us"] = m.floor_s() * 1e6;
    json["floor_share"] = m.floor_s() / m.median_s;
  }
  return json;
}

}  // namespace

void print_bench(const BenchRecord& record) {
  std::vector<std::pair<std::string, std::string>> facts{
      {"problem", record.problem}, {"plan", record.plan}, {"CPU", cpu_model()}};
  if (record.floors) {
    facts.emplace_back("GPU", record.floors->device);
    facts.emplace_back("GPU at best", floors_text(*record.floors));
  }
  print_facts(facts);
  print_line();
  print_results(record);
  print_line();
  print_line(
      "weights GB/s counts each expert that a token chose once; of read is its share of the plain read measured beside "
      "it.");
  if (!record.floors)
    print_line(
        fmt::format("of peak: of {} (bf16 activations: {}). Both shares are those of a round to the probes on "
                    "both sides of it, and the median of {} rounds.",
                    bench::ComputeProbe::int8_instruction(), bench::ComputeProbe::bf16_instruction(), record.rounds));
  if (record.floors && record.floors->bf16_flops_per_s > 0.0)
    print_line("floor: those weights at the plain read, or the products at the rate of BF16 matrices, the longer one.");
  print_stages(record);
}

nlohmann::json bench_json(const BenchRecord& record) {
  nlohmann::json results = nlohmann::json::array();
  for (const BenchResult& result : record.results) results.push_back(result_json(result));
  nlohmann::json json{{"problem", record.problem},
                      {"shape", record.shape},
                      {"backend", record.backend},
                      {"plan", record.plan},
                      {"cpu", cpu_model()},
                      {"threads", record.threads},
                      {"prepared_bytes", record.prepared_bytes},
                      {"results", results}};
  if (!record.floors)
    json.update({{"rounds", record.rounds},
                 {"int8_probe", bench::ComputeProbe::int8_instruction()},
                 {"bf16_probe", bench::ComputeProbe::bf16_instruction()}});
  if (record.floors)
    json.update({{"gpu", record.floors->device},
                 {"graph", record.graph},
                 {"floors",
                  {{"read_gb_per_s", record.floors->read_bytes_per_s * 1e-9},
                   {"read_bytes", record.floors->read_bytes},
                   {"copy_gb_per_s", record.floors->copy_bytes_per_s * 1e-9},
                   {"bf16_tflop_per_s", record.floors->bf16_flops_per_s * 1e-12},
                   {"bf16_source", record.floors->bf16_source}}}});
  return json;
}

}  // namespace megamoe::cli
