// Runs that are under way at the same time do not disturb each other: two plans, one plan with two workspaces, and
// plans that two threads of the host submit.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>

#include "backends/cuda/plan/device_call.h"

namespace megamoe::sm90::test {
namespace {

using megamoe::test::make_case;
using megamoe::test::parse_test_problem;

// One caller's stream, arrays and workspace, and the bits that its runs must have.
class Caller {
 public:
  Caller(const Plan& plan, const Case& c)
      : plan_(plan),
        inputs_(c),
        workspace_(plan.workspace_bytes()),
        want_(MemoryKind::kCuda, bytes(c)),
        output_(bytes(c), kDeviceAlignment),
        elements_(c.test.tokens * c.test.problem.hidden) {
    args_ = inputs_.args(c.test.tokens);
    args_.stream = stream_.get();
    args_.output = want_.as<std::uint16_t>();
    args_.workspace = workspace_.lay(plan.workspace_bytes(), 0xFF, stream_.get());
    plan_.run(args_);
    stream_.wait();
  }

  void submit(int run) {
    args_.output = output_.lay_array<std::uint16_t>(elements_, kPoisons[run % 3], stream_.get());
    if (run % 50 == 0) workspace_.lay(plan_.workspace_bytes(), kPoisons[run / 50 % 3], stream_.get());
    plan_.run(args_);
    differences_.compare(args_.output.data(), want_.data(), want_.size(), run, stream_.get());
    output_.compare_canaries(canaries_, run, stream_.get());
    workspace_.compare_canaries(canaries_, run, stream_.get());
  }

  void expect_same_bits(const std::string& who) {
    stream_.wait();
    EXPECT_EQ(differences_.first(plan_.problem().hidden), "")
        << who << " (comparison = run): not the bits of the run alone";
    EXPECT_EQ(canaries_.first(), "") << who << " (comparison = run): wrote outside its workspace or its output";
  }

 private:
  static std::size_t bytes(const Case& c) { return c.x.size() * sizeof(std::uint16_t); }

  const Plan& plan_;
  CudaStream stream_;
  DeviceInputs inputs_;
  GuardedBlock workspace_;
  Buffer want_;
  GuardedBlock output_;
  std::int64_t elements_;
  RunArgs args_;
  Differences differences_, canaries_;
};

class streams : public OnHopper {};

struct Layer {
  explicit Layer(const char* text)
      : c(make_case(parse_test_problem(text))),
        plan(prepared(c.test.problem, c.weights), {.max_tokens = c.test.tokens}) {}
  Case c;
  Plan plan;
};

// Streaming and tiles, with and without quantised activations, of lengths that slide past each other.
constexpr const char* kPairs[][2] = {
    {"t=64 h=512 i=256 e=8 k=2 w=nvfp4 a=bf16", "t=5 h=1024 i=512 e=16 k=4 w=nvfp4 a=nvfp4"},
    {"t=1 h=1024 i=512 e=16 k=4 w=nvfp4 a=bf16", "t=700 h=272 i=176 e=4 k=2 w=nvfp4 a=nvfp4 shared=80:bf16:gated"},
    {"t=16 h=272 i=176 e=8 k=2 w=nvfp4 a=bf16", "t=16 h=512 i=256 e=4 k=2 w=bf16 a=bf16"},
};

TEST_F(streams, two_plans_at_the_same_time_have_their_own_bits) {
  for (const auto& pair : kPairs) {
    SCOPED_TRACE(std::string(pair[0]) + " beside " + pair[1]);
    const Layer first(pair[0]);
    const Layer second(pair[1]);
    Caller a(first.plan, first.c);
    Caller b(second.plan, second.c);
    for (int run = 0; run < repeats(); ++run) {
      a.submit(run);
      b.submit(run);
    }
    a.expect_same_bits("first");
    b.expect_same_bits("second");
  }
}

TEST_F(streams, one_plan_with_two_workspaces_has_the_same_bits) {
  for (const char* text : {"t=1 h=1024 i=512 e=16 k=4 w=nvfp4 a=bf16", "t=20 h=512 i=256 e=8 k=2 w=nvfp4 a=nvfp4",
                           "t=200 h=512 i=256 e=8 k=2 w=nvfp4 a=bf16 shared=128:nvfp4"}) {
    SCOPED_TRACE(text);
    const Layer layer(text);
    Case other = layer.c;
    other.ids.assign(other.ids.size(), 1);  // everything to one expert, there
    Caller a(layer.plan, layer.c);
    Caller b(layer.plan, other);
    for (int run = 0; run < repeats(); ++run) {
      a.submit(run);
      b.submit(run);
    }
    a.expect_same_bits("first");
    b.expect_same_bits("second");
  }
}

// Plans of very different numbers of experts: what one run sets up in the process must not reach the other's launches.
TEST_F(streams, two_threads_run_two_plans) {
  const Layer few("t=33 h=128 i=64 e=2 k=1 w=nvfp4 a=bf16");
  const Layer many("t=33 h=64 i=32 e=600 k=8 w=nvfp4 a=nvfp4");
  Caller a(few.plan, few.c);
  Caller b(many.plan, many.c);
  std::string failed[2];
  const auto submit_all = [](Caller& caller, std::string& error) {
    try {
      for (int run = 0; run < repeats(); ++run) caller.submit(run);
    } catch (const std::exception& thrown) {
      error = thrown.what();
    }
  };
  std::thread first(submit_all, std::ref(a), std::ref(failed[0]));
  std::thread second(submit_all, std::ref(b), std::ref(failed[1]));
  first.join();
  second.join();
  EXPECT_EQ(failed[0], "");
  EXPECT_EQ(failed[1], "");
  a.expect_same_bits("first");
  b.expect_same_bits("second");
}

}  // namespace
}  // namespace megamoe::sm90::test
