// After its first call, run takes no memory: every operator new of this binary is counted.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "megamoe/host_call.h"
#include "support/each_backend.h"
#include "support/placed_inputs.h"
#include "support/test_case.h"

namespace {
std::atomic<long> allocations{0};

void* counted(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

void* counted(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto align = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(align, (bytes + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t bytes) { return counted(bytes); }
void* operator new[](std::size_t bytes) { return counted(bytes); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return counted(bytes, alignment); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return counted(bytes, alignment); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace megamoe::test {
namespace {

class allocation : public ::testing::TestWithParam<const char*> {};

TEST_P(allocation, none_in_run) {
  const Case c = make_case(parse_test_problem(GetParam()));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    // One thread: the library that schedules several may keep pools of its own.
    const auto weights = prepare(c.test.problem, c.weights, {.backend = std::string(backend), .threads = 1});
    const Plan plan(weights, {.max_tokens = c.test.tokens, .threads = 1});
    const Buffer workspace(plan.memory(), plan.workspace_bytes());
    const Buffer output(plan.memory(), c.x.size() * sizeof(std::uint16_t));
    const PlacedInputs inputs(c, plan.memory());
    RunArgs args = inputs.args();
    args.output = output.as<std::uint16_t>();
    args.workspace = workspace.as<std::byte>();
    plan.run(args);
    const long before = allocations;
    for (int i = 0; i < 3; ++i) plan.run(args);
    EXPECT_EQ(allocations - before, 0);
  });
}

TEST_P(allocation, none_in_run_from_host_arrays) {
  const Case c = make_case(parse_test_problem(GetParam()));
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const auto weights = prepare(c.test.problem, c.weights, {.backend = std::string(backend), .threads = 1});
    const Plan plan(weights, {.max_tokens = c.test.tokens, .threads = 1});
    HostCall call(plan);
    std::vector<std::uint16_t> output(c.x.size());
    RunArgs args = PlacedInputs(c, MemoryKind::kHost).args();
    args.output = output;
    call.run(args);
    const long before = allocations;
    for (int i = 0; i < 3; ++i) call.run(args);
    EXPECT_EQ(allocations - before, 0);
  });
}

INSTANTIATE_TEST_SUITE_P(problems, allocation,
                         ::testing::Values("t=20 h=64 i=48 e=4 k=2 w=nvfp4 a=bf16 shared=32:bf16:gated",
                                           "t=20 h=64 i=48 e=4 k=2 w=nvfp4 a=nvfp4 shared=32:nvfp4",
                                           "t=20 h=64 i=48 e=4 k=2 w=nvfp4 a=int8 bias act=oai",
                                           "t=20 h=64 i=48 e=4 k=2 w=bf16 a=bf16",
                                           "t=0 h=64 i=48 e=4 k=2 w=nvfp4 a=int8"));

}  // namespace
}  // namespace megamoe::test
