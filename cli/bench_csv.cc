// The results of `bench` for a spreadsheet: the figures of its JSON, one line a result.
#include <nlohmann/json.hpp>

#include "bench_output.h"
#include "output.h"

namespace megamoe::cli {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string cell(const nlohmann::json& value) {
  return value.is_string() ? quoted(value.get<std::string>()) : value.dump();
}

}  // namespace

void print_bench_csv(const BenchRecord& record) {
  const nlohmann::json json = bench_json(record);
  std::vector<std::string> names;
  for (const auto& [name, value] : json["results"][0].items())
    if (value.is_primitive()) names.push_back(name);
  std::string titles = "problem,plan";
  for (const std::string& name : names) titles += "," + name;
  print_line(titles);
  for (const nlohmann::json& result : json["results"]) {
    std::string cells = quoted(record.problem) + "," + quoted(record.plan);
    for (const std::string& name : names) cells += "," + (result.contains(name) ? cell(result[name]) : "");
    print_line(cells);
  }
}

}  // namespace megamoe::cli
