#include "support/run_case.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

namespace megamoe::test {
namespace {

constexpr std::size_t kGuard = 256;
constexpr std::byte kCanary{0xA5};

// `bytes` bytes of poison at an address that is `skew` past a 64-byte line, between two canaries.
class HostileBlock {
 public:
  HostileBlock(std::size_t bytes, std::size_t skew, Poison poison)
      : bytes_(bytes), block_(bytes + 2 * kGuard + 64, kCanary) {
    const auto address = reinterpret_cast<std::uintptr_t>(block_.data()) + kGuard;
    begin_ = block_.data() + kGuard + (64 - address % 64) % 64 + skew;
    const auto word = static_cast<std::uint32_t>(poison);
    for (std::size_t i = 0; i < bytes; ++i) begin_[i] = static_cast<std::byte>(word >> (8 * (i % 4)));
  }

  std::span<std::byte> span() { return {begin_, bytes_}; }

  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(begin_), bytes_ / sizeof(T)};
  }

  bool canaries_live() const {
    const std::byte* const end = block_.data() + block_.size();
    const auto is_canary = [](std::byte b) { return b == kCanary; };
    return std::all_of(block_.data(), static_cast<const std::byte*>(begin_), is_canary) &&
           std::all_of(static_cast<const std::byte*>(begin_) + bytes_, end, is_canary);
  }

 private:
  std::size_t bytes_;
  std::vector<std::byte> block_;
  std::byte* begin_;
};

}  // namespace

std::vector<double> Result::as_doubles() const {
  std::vector<double> values(f32.begin(), f32.end());
  for (const std::uint16_t bits : bf16) values.push_back(from_bf16(bits));
  return values;
}

Layer::Layer(const Case& c, std::string_view backend, std::int64_t max_tokens, int threads)
    : plan_(std::make_unique<Plan>(
          prepare(c.test.problem, c.weights, {.backend = std::string(backend), .threads = threads}),
          PlanOptions{.max_tokens = max_tokens, .threads = threads})) {
  EXPECT_EQ(plan_->backend(), backend);
}

Result Layer::run(const Case& c, const RunOptions& options) const {
  const auto elements = static_cast<std::size_t>(c.test.tokens * c.test.problem.hidden);
  HostileBlock workspace(plan_->workspace_bytes(), 1, options.poison);
  HostileBlock output(elements * (options.f32 ? 4 : 2), 4, options.poison);
  Result run;
  RunArgs args;
  args.tokens = c.test.tokens;
  args.x = c.x;
  args.topk_ids = c.ids;
  args.topk_weights = c.topk_weights;
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
    run.f32.assign(args.output_f32.begin(), args.output_f32.end());
  else
    run.bf16.assign(args.output.begin(), args.output.end());
  return run;
}

Result run_case(const Case& c, std::string_view backend, const RunOptions& options, int threads) {
  return Layer(c, backend, c.test.tokens, threads).run(c, options);
}

}  // namespace megamoe::test
