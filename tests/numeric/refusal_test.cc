// What the layer does not take, and how it says so.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "megamoe/error.h"
#include "megamoe/host_call.h"
#include "support/each_backend.h"
#include "support/placed_inputs.h"
#include "support/two_stages.h"

namespace megamoe::test {
namespace {

// EXPECT_THROW that also looks at the code and at the sentence.
void expect_error(Code code, std::string_view sentence, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "nothing thrown, expected: " << sentence;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_EQ(std::string_view(error.what()), sentence);
  }
}

TEST(refusal, sizes_that_are_no_multiple_of_16) {
  for (const auto& [text, sentence] : {
           std::pair{"h=40 i=32 e=2 k=1", "hidden: asked 40, accepted: multiples of 16 from 16 to 1048576"},
           std::pair{"h=32 i=8 e=2 k=1", "inter: asked 8, accepted: multiples of 16 from 16 to 1048576"},
           std::pair{"h=0 i=32 e=2 k=1", "hidden: asked 0, accepted: multiples of 16 from 16 to 1048576"},
           std::pair{"h=32 i=32 e=2 k=1 shared=24:bf16",
                     "shared.inter: asked 24, accepted: multiples of 16 from 16 to 1048576"},
           std::pair{"h=32 i=32 e=2 k=3", "top_k: asked 3, accepted: 1 to experts = 2"},
       }) {
    const Problem problem = parse_problem(text);
    expect_error(Code::kInvalidArgument, sentence, [&] { candidates(problem); });
    const MemorySource nothing;
    expect_error(Code::kInvalidArgument, sentence, [&] { prepare(problem, nothing); });
  }
}

TEST(refusal, an_unknown_backend) {
  const Case c = make_case(parse_test_problem("t=1 h=32 i=32 e=2 k=1"));
  try {
    prepare(c.test.problem, c.weights, {.backend = "abacus"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument);
    EXPECT_TRUE(std::string(error.what()).starts_with("backend: asked 'abacus', accepted: auto, ")) << error.what();
  }
}

TEST(refusal, more_tokens_than_a_workspace_can_count) {
  const Case c = make_case(parse_test_problem("t=1 h=32 i=64 e=2 k=2"));
  const auto weights = prepare(c.test.problem, c.weights);
  constexpr std::int64_t kMost = (std::int64_t{1} << 48) / (2 * 64);
  EXPECT_GT(Plan(weights, {.max_tokens = kMost, .threads = 1}).workspace_bytes(), std::size_t{kMost});
  for (const std::int64_t asked : {std::int64_t{-1}, kMost + 1, std::numeric_limits<std::int64_t>::max()})
    expect_error(Code::kInvalidArgument,
                 "max_tokens: asked " + std::to_string(asked) + ", accepted: 0 to " + std::to_string(kMost),
                 [&] { Plan(weights, {.max_tokens = asked, .threads = 1}); });
}

TEST(refusal, an_instruction_set_of_a_backend_without_a_choice) {
  const Case c = make_case(parse_test_problem("t=1 h=32 i=32 e=2 k=1"));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    if (backend == "cpu") return;
    const auto weights = prepare(c.test.problem, c.weights, {.backend = std::string(backend)});
    expect_error(Code::kInvalidArgument,
                 "isa: asked AVX2 of backend " + std::string(backend) +
                     ", which has no choice of them, accepted: of backend cpu",
                 [&] { Plan(weights, {.max_tokens = 1, .threads = 1, .isa = "AVX2"}); });
  });
}

TEST(refusal, static_scales_that_the_checkpoint_does_not_have) {
  Case c = make_case(parse_test_problem("t=1 h=32 i=32 e=2 k=1 w=nvfp4 a=nvfp4 scale=static"));
  c.weights.experts[1].down_input_scale = 0.0f;
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    EXPECT_THROW(prepare(c.test.problem, c.weights, {.backend = std::string(backend)}), Error);
  });
}

TEST(refusal, weights_of_another_shape) {
  Case c = make_case(parse_test_problem("t=1 h=32 i=48 e=2 k=1"));
  Random random(1);
  c.weights.experts[1].down = random_matrix(WeightFormat::kNvfp4, 32, 32, 1.0, random);
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    EXPECT_THROW(prepare(c.test.problem, c.weights, {.backend = std::string(backend)}), Error);
  });
}

constexpr const char* kIdTooLarge =
    "topk_ids: token 2 asks for expert 4, accepted: 0 to 3, -1 (dropped) or -2 (poisoned)";
constexpr const char* kIdTooSmall =
    "topk_ids: token 2 asks for expert -3, accepted: 0 to 3, -1 (dropped) or -2 (poisoned)";

// Wrong arguments of run: refused before anything is written. All but ids, which a plan on a device does not look at
// before, are refused for what the host knows: the arrays may lie anywhere.
TEST(refusal, run_arguments) {
  const Case c = make_case(parse_test_problem("t=3 h=32 i=32 e=4 k=2"));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const Layer layer(c, backend, 3);
    std::vector<std::byte> workspace(layer.plan().workspace_bytes());
    std::vector<std::uint16_t> output(3 * 32, 0x1234);
    std::vector<float> output_f32(3 * 32, 7.0f);
    RunArgs good;
    good.tokens = 3;
    good.x = c.x;
    good.topk_ids = c.ids;
    good.topk_weights = c.topk_weights;
    good.output = output;
    good.workspace = workspace;

    const auto expect_refused = [&](std::string_view sentence, const std::function<void(RunArgs&)>& spoil) {
      RunArgs args = good;
      spoil(args);
      expect_error(Code::kInvalidArgument, sentence, [&] { layer.plan().run(args); });
    };
    if (layer.on_device()) {
      expect_refused("x: begins 2 bytes past a multiple of 16, accepted on a device: at one", [](RunArgs& args) {
        args.x = {args.x.data() + 1, args.x.size()};
      });
    } else {
      std::vector<std::int32_t> ids = c.ids;
      ids[5] = 4;
      expect_refused(kIdTooLarge, [&](RunArgs& args) { args.topk_ids = ids; });
      ids[5] = -3;
      expect_refused(kIdTooSmall, [&](RunArgs& args) { args.topk_ids = ids; });
    }
    expect_refused("tokens: asked 4, accepted: 0 to the plan's 3", [](RunArgs& args) { args.tokens = 4; });
    expect_refused("tokens: asked -1, accepted: 0 to the plan's 3", [](RunArgs& args) { args.tokens = -1; });
    expect_refused("x: expected [3, 32], found 95 elements", [](RunArgs& args) { args.x = args.x.first(95); });
    expect_refused("topk_weights: expected [3, 2], found 5 elements",
                   [](RunArgs& args) { args.topk_weights = args.topk_weights.first(5); });
    expect_refused("output: asked both output and output_f32, accepted: one of them",
                   [&](RunArgs& args) { args.output_f32 = output_f32; });
    expect_refused("workspace: plan needs " + std::to_string(workspace.size()) + " bytes, got " +
                       std::to_string(workspace.size() - 1),
                   [](RunArgs& args) { args.workspace = args.workspace.first(args.workspace.size() - 1); });
    EXPECT_EQ(output, std::vector<std::uint16_t>(3 * 32, 0x1234));
    EXPECT_EQ(output_f32, std::vector<float>(3 * 32, 7.0f));
  });
}

// A call from host arrays refuses bad ids wherever it computes; a plan on a device makes their tokens NaN, and no
// other.
TEST(refusal, expert_ids_out_of_range) {
  const Case good = make_case(parse_test_problem("t=3 h=32 i=32 e=4 k=2"));
  for (const auto& [id, sentence] : {std::pair{4, kIdTooLarge}, std::pair{-3, kIdTooSmall}}) {
    Case bad = good;
    bad.ids[5] = id;
    for_each_backend(good.test.problem, [&](std::string_view backend) {
      const Layer layer(good, backend, 3);
      HostCall call(layer.plan());
      std::vector<std::uint16_t> output(3 * 32, 0x1234);
      RunArgs args = PlacedInputs(bad, MemoryKind::kHost).args();
      args.output = output;
      expect_error(Code::kInvalidArgument, sentence, [&] { call.run(args); });
      EXPECT_EQ(output, std::vector<std::uint16_t>(3 * 32, 0x1234));
      if (!layer.on_device()) return;
      const std::vector<std::uint16_t> want = layer.run(good).bf16, got = layer.run(bad).bf16;
      for (std::size_t i = 0; i < got.size(); ++i)
        if (i < 2 * 32)
          EXPECT_EQ(got[i], want[i]) << "token " << i / 32 << ", col " << i % 32;
        else
          EXPECT_TRUE(std::isnan(from_bf16(got[i]))) << "token 2, col " << i % 32;
    });
  }
}

}  // namespace
}  // namespace megamoe::test
