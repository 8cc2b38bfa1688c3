// Every kernel with every number of rows: all sizes of tiles, and all ways to cut an expert's rows into them. Inputs
// are those whose sums are exact in any order (support/exact_case.h), so that one run of a backend of the host says the
// bits of all of them: a token's are the same whoever else is there.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "backends/cuda/plan/device_call.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/e2m1.h"
#include "megamoe/formats/e4m3.h"
#include "support/exact_case.h"
#include "support/run_case.h"

namespace megamoe::sm90::test {
namespace {

using megamoe::test::ExactTokens;
using megamoe::test::make_exact_case;
using megamoe::test::OwnedExpert;
using megamoe::test::OwnedMatrix;
using megamoe::test::run_case;

// The same values as bf16, which holds them all: an exact case's scales are powers of two but for 14, whose products
// with codes have at most five bits.
OwnedMatrix as_bf16(const OwnedMatrix& nvfp4) {
  OwnedMatrix out = OwnedMatrix::zeros(WeightFormat::kBf16, nvfp4.rows, nvfp4.cols);
  for (std::int64_t i = 0; i < nvfp4.rows * nvfp4.cols; ++i) {
    const auto both = std::to_integer<unsigned>(nvfp4.data[static_cast<std::size_t>(i / 2)]);
    const auto code = static_cast<std::uint8_t>(i % 2 == 0 ? both & 15u : both >> 4);
    const auto scale = std::to_integer<std::uint8_t>(nvfp4.sf[static_cast<std::size_t>(i / 16)]);
    out.set_bf16(0, i, bf16_from_float(e2m1_to_float(code) * e4m3_to_float(scale) * nvfp4.global_scale));
  }
  return out;
}

Case exact_case(const std::string& sizes, WeightFormat weights) {
  Case c = make_exact_case(sizes + " w=nvfp4", ExactTokens::kDiffer);
  if (weights == WeightFormat::kNvfp4) return c;
  c.test.problem.weights = weights;
  for (OwnedExpert& expert : c.weights.experts)
    for (OwnedMatrix* matrix : {&expert.gate, &expert.up, &expert.down}) *matrix = as_bf16(*matrix);
  return c;
}

class boundaries : public OnHopper, public ::testing::WithParamInterface<WeightFormat> {};

// Runs the first tokens of a case, each number of `counts`, with every kernel for its weights.
void check_every_kernel(const Case& c, const std::vector<std::int64_t>& counts) {
  SCOPED_TRACE(c.test.to_string());
  const Problem& problem = c.test.problem;
  const std::vector<std::uint16_t> wanted = run_case(c, host_backend(problem)).bf16;
  Buffer want(MemoryKind::kCuda, wanted.size() * sizeof(std::uint16_t));
  want.upload(std::as_bytes(std::span(wanted)));
  const auto weights = prepared(problem, c.weights);
  const CudaStream stream;
  const DeviceInputs inputs(c);
  GuardedBlock output(want.size(), kDeviceAlignment);
  for (const Kernel& kernel : kernels()) {
    if (kernel.weights != problem.weights) continue;
    SCOPED_TRACE(kernel.name);
    const ForcedKernel forced(kernel);
    const Plan plan(weights, {.max_tokens = c.test.tokens});
    GuardedBlock workspace(plan.workspace_bytes());
    Differences bits, canaries;
    for (const std::int64_t tokens : counts) {
      RunArgs args = inputs.args(tokens);
      args.stream = stream.get();
      args.output = output.lay_array<std::uint16_t>(tokens * problem.hidden, kPoisons[tokens % 2], stream.get());
      args.workspace = workspace.lay(plan.workspace_bytes(), kPoisons[tokens / 2 % 3], stream.get());
      plan.run(args);
      bits.compare(args.output.data(), want.data(), args.output.size_bytes(), tokens, stream.get());
      output.compare_canaries(canaries, tokens, stream.get());
      workspace.compare_canaries(canaries, tokens, stream.get());
    }
    stream.wait();
    EXPECT_EQ(bits.first(problem.hidden), "") << "(comparison = number of tokens) not the bits of the host";
    EXPECT_EQ(canaries.first(), "") << "(comparison = number of tokens) wrote outside its workspace or its output";
  }
}

std::vector<std::int64_t> every_count(std::int64_t last) {
  std::vector<std::int64_t> counts;
  for (std::int64_t tokens = 1; tokens <= last; ++tokens) counts.push_back(tokens);
  return counts;
}

// Around multiples of the tiles' steps.
std::vector<std::int64_t> counts_near_steps(std::int64_t last) {
  std::vector<std::int64_t> counts{1};
  for (std::int64_t step = 8; step < last; step += 8)
    for (const std::int64_t tokens : {step, step + 1}) counts.push_back(tokens);
  return counts;
}

TEST_P(boundaries, every_row_count_of_one_expert_from_1_to_330) {
  for (const char* activations : {" a=bf16", " a=nvfp4"})
    check_every_kernel(exact_case(std::string("t=330 h=64 i=32 e=1 k=1") + activations, GetParam()), every_count(330));
}

TEST_P(boundaries, every_token_count_of_two_experts_from_1_to_330) {
  for (const char* activations : {" a=bf16", " a=nvfp4"})
    check_every_kernel(exact_case(std::string("t=330 h=64 i=32 e=2 k=1") + activations, GetParam()), every_count(330));
}

// K so long that every ring goes round, with tails in all directions.
TEST_P(boundaries, long_sums) {
  for (const char* activations : {" a=bf16", " a=nvfp4"})
    check_every_kernel(exact_case(std::string("t=330 h=1040 i=912 e=1 k=1") + activations, GetParam()),
                       counts_near_steps(330));
}

// Several units of what one warp gathers at a time, the last one short.
TEST_P(boundaries, long_rows) {
  for (const char* activations : {" a=bf16", " a=nvfp4"})
    check_every_kernel(exact_case(std::string("t=330 h=4688 i=48 e=1 k=1") + activations, GetParam()), {1, 130, 330});
}

// More tiles than are gathered at one time: into the places of those that all blocks have read (RowGather::ring).
TEST_P(boundaries, rings_of_tiles_come_round) {
  for (const char* activations : {" a=bf16", " a=nvfp4"})
    check_every_kernel(exact_case(std::string("t=1600 h=272 i=1024 e=40 k=6") + activations, GetParam()), {1600});
}

// So many tiles and panels that each block takes several items.
TEST_P(boundaries, several_items_a_block) {
  for (const char* activations : {" a=bf16", " a=nvfp4"})
    for (const char* route : {"", " route=skew", " route=dropped"})
      check_every_kernel(exact_case(std::string("t=400 h=784 i=272 e=24 k=3") + activations + route, GetParam()),
                         {1, 2, 7, 11, 29, 64, 100, 177, 256, 399, 400});
}

std::string format_name(const ::testing::TestParamInfo<WeightFormat>& info) { return std::string(name(info.param)); }
INSTANTIATE_TEST_SUITE_P(weights, boundaries, ::testing::Values(WeightFormat::kNvfp4, WeightFormat::kBf16),
                         format_name);

}  // namespace
}  // namespace megamoe::sm90::test
