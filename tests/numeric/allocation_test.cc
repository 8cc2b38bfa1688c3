// After its first calls, run takes no memory, with any number of threads.
//
// Counted is every call of malloc, calloc, realloc, aligned_alloc, memalign, posix_memalign, and so of operator new, in
// the whole process, by whichever thread and library: this binary's definitions stand before those of the C library.
// What oneTBB asks for is counted apart, by the address that it is asked from, and libtbbmalloc is kept from it, so
// that it asks malloc. So is what the dynamic linker takes for the threads that oneTBB starts, some of them calls later
// on a busy machine, and what the CUDA driver takes in threads of its own. Not counted are pages that the kernel gives
// without being asked for (stacks), and tasks that oneTBB makes in memory that it holds already.
//
// The CUDA runtime is linked into this binary, so that its malloc can not be told from this library's by an address. Of
// a device's run only what this library calls is counted: operator new, and aligned_alloc and its like.
//
// Sanitizers bring their own malloc: with them, and elsewhere than glibc, only this binary's operator new is counted.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <ostream>

#include "megamoe/host_call.h"
#include "support/each_backend.h"
#include "support/placed_inputs.h"
#include "support/test_case.h"

namespace {

std::atomic<bool> is_counting{false};
std::atomic<long> own_allocations{0};     // as this library's code asks for memory
std::atomic<long> malloc_allocations{0};  // by malloc, calloc and realloc, but from operator new
std::atomic<long> scheduler_allocations{0};
std::atomic<const char*> last_library{""};  // that asked, of all but the scheduler's

enum class Call { kMalloc, kAligned };

[[maybe_unused]] void count(Call call, const void* caller) {
  if (!is_counting) return;
  Dl_info library{};
  const char* const name = dladdr(caller, &library) != 0 && library.dli_fname != nullptr ? library.dli_fname : "";
  const auto is_from = [&](const char* part) { return std::strstr(name, part) != nullptr; };
  if (is_from("libcuda") || is_from("libnvidia")) return;
  ++(is_from("libtbb") || is_from("/ld-")             ? scheduler_allocations
     : call == Call::kAligned || is_from("libstdc++") ? own_allocations
                                                      : malloc_allocations);
  if (!is_from("libtbb")) last_library = name;
}

}  // namespace

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

constexpr bool kCountsMalloc = true;

extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);

void* malloc(std::size_t bytes) noexcept {
  count(Call::kMalloc, __builtin_return_address(0));
  return __libc_malloc(bytes);
}
void* calloc(std::size_t number, std::size_t bytes) noexcept {
  count(Call::kMalloc, __builtin_return_address(0));
  return __libc_calloc(number, bytes);
}
void* realloc(void* memory, std::size_t bytes) noexcept {
  count(Call::kMalloc, __builtin_return_address(0));
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  count(Call::kAligned, __builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  count(Call::kAligned, __builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) noexcept {
  count(Call::kAligned, __builtin_return_address(0));
  *memory = __libc_memalign(alignment, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}
void* dlopen(const char* file, int mode) noexcept {
  using Function = void* (*)(const char*, int);
  if (file != nullptr && std::strstr(file, "tbbmalloc") != nullptr) return nullptr;
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, "dlopen"))(file, mode);
}
}

#else

constexpr bool kCountsMalloc = false;

namespace {
void* counted(std::size_t bytes) {
  if (is_counting) ++own_allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

void* counted(std::size_t bytes, std::align_val_t alignment) {
  if (is_counting) ++own_allocations;
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

#endif

namespace megamoe::test {
namespace {

struct Counts {
  long own = 0, by_malloc = 0, scheduler = 0;
};

template <class Work>
Counts allocations_of(const Work& work) {
  const Counts before{own_allocations, malloc_allocations, scheduler_allocations};
  is_counting = true;
  work();
  is_counting = false;
  return {own_allocations - before.own, malloc_allocations - before.by_malloc,
          scheduler_allocations - before.scheduler};
}

TEST(allocation_count, sees_an_allocation) {
  EXPECT_EQ(allocations_of([] {}).own, 0);
  // volatile: a compiler may leave out a pair of new and delete that nobody looks at.
  const auto one = [] {
    int* volatile memory = new int(0);
    delete memory;
  };
  EXPECT_EQ(allocations_of(one).own, 1);
  if (!kCountsMalloc) return;
  const auto buffer = [] { const Buffer some(MemoryKind::kHost, 64); };
  EXPECT_EQ(allocations_of(buffer).own, 1);
}

struct Param {
  const char* problem;
  int threads;
};

void PrintTo(const Param& param, std::ostream* out) { *out << param.problem << " threads=" << param.threads; }

class allocation : public ::testing::TestWithParam<Param> {};

// Calls `run` until 20 calls in a row have taken no memory at all; the library itself may take none in any. oneTBB's
// pools grow when a thread takes part for the first time, or makes more tasks at once than before, which a busy machine
// may put off.
template <class Run>
void expect_none(const Plan& plan, const Run& run) {
  run();
  long scheduler = 0;
  for (int quiet = 0, calls = 0; quiet < 20; ++calls) {
    const Counts counts = allocations_of(run);
    ASSERT_EQ(counts.own, 0) << "call " << calls << ", asked by " << last_library;
    if (plan.memory() == MemoryKind::kHost) {
      ASSERT_EQ(counts.by_malloc, 0) << "call " << calls << ", asked by " << last_library;
    }
    scheduler += counts.scheduler;
    quiet = counts.scheduler == 0 ? quiet + 1 : 0;
    ASSERT_LT(calls, 2000) << "oneTBB's pools still grow: " << scheduler << " allocations";
  }
}

TEST_P(allocation, none_in_run) {
  const Case c = make_case(parse_test_problem(GetParam().problem));
  const int threads = GetParam().threads;
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const auto weights = prepare(c.test.problem, c.weights, {.backend = std::string(backend), .threads = threads});
    const Plan plan(weights, {.max_tokens = c.test.tokens, .threads = threads});
    const Buffer workspace(plan.memory(), plan.workspace_bytes());
    const Buffer output(plan.memory(), c.x.size() * sizeof(std::uint16_t));
    const PlacedInputs inputs(c, plan.memory());
    RunArgs args = inputs.args();
    args.output = output.as<std::uint16_t>();
    args.workspace = workspace.as<std::byte>();
    expect_none(plan, [&] { plan.run(args); });
  });
}

TEST_P(allocation, none_in_run_from_host_arrays) {
  const Case c = make_case(parse_test_problem(GetParam().problem));
  const int threads = GetParam().threads;
  for_each_backend(c.test.problem, [&](std::string_view backend) {
    const auto weights = prepare(c.test.problem, c.weights, {.backend = std::string(backend), .threads = threads});
    const Plan plan(weights, {.max_tokens = c.test.tokens, .threads = threads});
    HostCall call(plan);
    std::vector<std::uint16_t> output(c.x.size());
    RunArgs args = PlacedInputs(c, MemoryKind::kHost).args();
    args.output = output;
    expect_none(plan, [&] { call.run(args); });
  });
}

constexpr const char* kProblems[] = {
    "t=20 h=64 i=48 e=4 k=2 w=nvfp4 a=bf16 shared=32:bf16:gated",
    "t=20 h=64 i=48 e=4 k=2 w=nvfp4 a=nvfp4 shared=32:nvfp4",
    "t=20 h=64 i=48 e=4 k=2 w=nvfp4 a=int8 bias act=oai",
    "t=20 h=64 i=48 e=4 k=2 w=bf16 a=bf16",
    "t=0 h=64 i=48 e=4 k=2 w=nvfp4 a=int8",
    "t=48 h=128 i=128 e=4 k=2 w=nvfp4 a=int8",  // enough steps for several threads in every phase
};

std::vector<Param> params() {
  std::vector<Param> all;
  for (const char* problem : kProblems)
    for (const int threads : {1, 2, 4}) all.push_back({problem, threads});
  return all;
}

INSTANTIATE_TEST_SUITE_P(problems, allocation, ::testing::ValuesIn(params()), [](const auto& tested) {
  return "problem_" + std::to_string(tested.index / 3) + "_threads_" + std::to_string(tested.param.threads);
});

}  // namespace
}  // namespace megamoe::test
