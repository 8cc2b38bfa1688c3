#include "bench_tools.h"

#include <fmt/format.h>

#include "bench/oracle_check.h"
#include "bench/tool_timer.h"
#include "json_output.h"
#include "machine.h"
#include "megamoe/error.h"
#include "messages.h"
#include "output.h"

namespace megamoe::cli {
namespace {

// The weights that a pass makes are judged by the oracle before any pass is timed.
void check_prepared(const ToolBench& choice, const PrepareOptions& options) {
  const auto weights = prepare(choice.layer.problem, *choice.layer.source, options);
  const Plan plan(weights, {.max_tokens = 1, .threads = choice.threads});
  const bench::Tokens tokens = bench::random_tokens(choice.layer.problem, 1, {}, 1);
  const bench::SampleCheck judged = bench::check_sample_with_oracle(plan, *choice.layer.source, tokens, 1);
  if (!judged.check.passed())
    throw Error(Code::kInternal, "bench: ", plan.backend(), " is wrong with 1 token: ", judged.check.first_fault());
}

bench::ToolMeasurement measure(const ToolBench& choice) {
  const Problem& problem = choice.layer.problem;
  if (choice.stage == "quantize") {
    message(fmt::format("quantising {} experts", problem.experts));
    return bench::measure_quantize(problem, choice.threads, choice.timer);
  }
  message(fmt::format("preparing {} experts", problem.experts));
  const PrepareOptions options{.backend = choice.backend, .threads = choice.threads};
  check_prepared(choice, options);
  return bench::measure_prepare(problem, *choice.layer.source, options, choice.timer);
}

}  // namespace

void run_tool_bench(const ToolBench& choice) {
  const bench::ToolMeasurement m = measure(choice);
  const bool is_quantize = choice.stage == "quantize";
  const double floor_rate = (is_quantize ? 1.0 : 2.0) * m.input_bytes / m.floor_s;
  const int threads = choice.threads == 0 ? machine_threads() : choice.threads;
  if (choice.json) {
    print_json({{"stage", choice.stage},
                {"problem", choice.layer.problem.to_string()},
                {"cpu", cpu_model()},
                {"threads", threads},
                {"input_bytes", m.input_bytes},
                {"output_bytes", m.output_bytes},
                {"repeats", m.repeats},
                {"dropped", m.dropped},
                {"median_us", m.median_s * 1e6},
                {"min_us", m.min_s * 1e6},
                {"input_gb_per_s", m.input_bytes_per_s() * 1e-9},
                {"floor", is_quantize ? "read" : "copy"},
                {"floor_us", m.floor_s * 1e6},
                {"floor_gb_per_s", floor_rate * 1e-9},
                {"over_floor", m.over_floor},
                {"floor_share", 1.0 / m.over_floor}});
    return;
  }
  print_facts({{"stage", is_quantize ? "quantize, recipe rne, BF16 to NVFP4" : "prepare, " + choice.backend},
               {"problem", choice.layer.problem.to_string()},
               {"CPU", cpu_model()},
               {"threads", fmt::format("{}", threads)}});
  print_line();
  Table table({{"in", Align::kRight},
               {"out", Align::kRight},
               {"median", Align::kRight},
               {"min", Align::kRight},
               {"in GB/s", Align::kRight},
               {is_quantize ? "plain read" : "copy", Align::kRight},
               {is_quantize ? "read GB/s" : "read and written GB/s", Align::kRight},
               {"times as long", Align::kRight},
               {"of its rate", Align::kRight},
               {"rounds"}});
  table.add_row({human_bytes(m.input_bytes), human_bytes(m.output_bytes), human_time(m.median_s), human_time(m.min_s),
                 number(m.input_bytes_per_s() * 1e-9, 1), human_time(m.floor_s), number(floor_rate * 1e-9, 1),
                 number(m.over_floor, 2), number(1.0 / m.over_floor, 2),
                 fmt::format("{} ({} dropped)", m.repeats, m.dropped)});
  table.print();
  print_line();
  print_line(is_quantize ? "plain read: of as many bytes as go in, on the same threads, before and after each round."
                         : "copy: of what goes in, into new memory, on the same threads, before and after each round.");
}

}  // namespace megamoe::cli
