#include "support/run_case.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "support/placed_inputs.h"

namespace megamoe::test {

std::vector<double> Result::as_doubles() const {
  std::vector<double> values(f32.begin(), f32.end());
  for (const std::uint16_t bits : bf16) values.push_back(from_bf16(bits));
  return values;
}

Layer::Layer(const Case& c, std::string_view backend, std::int64_t max_tokens, int threads)
    : Layer(prepare(c.test.problem, c.weights, {.backend = std::string(backend), .threads = threads}), max_tokens,
            threads) {
  EXPECT_EQ(plan_->backend(), backend);
}

Layer::Layer(std::shared_ptr<const PreparedWeights> weights, std::int64_t max_tokens, int threads)
    : plan_(std::make_unique<Plan>(std::move(weights), PlanOptions{.max_tokens = max_tokens, .threads = threads})) {}

Result Layer::run(const Case& c, const RunOptions& options) const {
  const auto elements = static_cast<std::size_t>(c.test.tokens * c.test.problem.hidden);
  const MemoryKind memory = plan_->memory();
  const PlacedInputs inputs(c, memory);
  const HostileBlock workspace(memory, plan_->workspace_bytes(), 1, options.poison);
  const HostileBlock output(memory, elements * (options.f32 ? 4 : 2), on_device() ? kDeviceAlignment : 4,
                            options.poison);
  Result run;
  RunArgs args = inputs.args();
  if (options.f32)
    args.output_f32 = output.as<float>();
  else
    args.output = output.as<std::uint16_t>();
  args.workspace = workspace.span();
  args.intermediate = options.intermediate ? &run.intermediate : nullptr;
  plan_->run(args);
  EXPECT_TRUE(workspace.canaries_live()) << "run wrote outside its workspace";
  EXPECT_TRUE(output.canaries_live()) << "run wrote outside its output";
  if (options.f32)
    run.f32 = output.contents<float>();
  else
    run.bf16 = output.contents<std::uint16_t>();
  return run;
}

Result run_case(const Case& c, std::string_view backend, const RunOptions& options, int threads) {
  return Layer(c, backend, c.test.tokens, threads).run(c, options);
}

}  // namespace megamoe::test
