#include "moe/check_args.h"

#include <string_view>

#include "megamoe/error.h"
#include "megamoe/routing.h"

namespace megamoe {
namespace {

void check_size(std::string_view what, std::size_t found, std::int64_t rows, std::int64_t cols) {
  if (found != static_cast<std::size_t>(rows * cols))
    throw Error(Code::kInvalidArgument, what, ": expected [", rows, ", ", cols, "], found ", found, " elements");
}

void check_begin(std::string_view what, const void* data) {
  if (const auto past = reinterpret_cast<std::uintptr_t>(data) % kDeviceAlignment; past != 0)
    throw Error(Code::kInvalidArgument, what, ": begins ", past, " bytes past a multiple of ", kDeviceAlignment,
                ", accepted on a device: at one");
}

}  // namespace

void check_sizes(const Problem& problem, std::int64_t max_tokens, std::size_t workspace_bytes, const RunArgs& args) {
  const std::int64_t tokens = args.tokens;
  if (tokens < 0 || tokens > max_tokens)
    throw Error(Code::kInvalidArgument, "tokens: asked ", tokens, ", accepted: 0 to the plan's ", max_tokens);
  check_size("x", args.x.size(), tokens, problem.hidden);
  check_size("topk_ids", args.topk_ids.size(), tokens, problem.top_k);
  check_size("topk_weights", args.topk_weights.size(), tokens, problem.top_k);
  if (!args.output.empty() && !args.output_f32.empty())
    throw Error(Code::kInvalidArgument, "output: asked both output and output_f32, accepted: one of them");
  if (args.output_f32.empty())
    check_size("output", args.output.size(), tokens, problem.hidden);
  else
    check_size("output_f32", args.output_f32.size(), tokens, problem.hidden);
  if (args.workspace.size() < workspace_bytes)
    throw Error(Code::kInvalidArgument, "workspace: plan needs ", workspace_bytes, " bytes, got ",
                args.workspace.size());
}

void check_device_alignment(const RunArgs& args) {
  check_begin("x", args.x.data());
  check_begin("output", args.output.data());
  check_begin("output_f32", args.output_f32.data());
}

void check_ids(const Problem& problem, std::span<const std::int32_t> topk_ids) {
  for (std::size_t i = 0; i < topk_ids.size(); ++i) {
    const std::int32_t id = topk_ids[i];
    if (id < kPoisonedExpert || id >= problem.experts)
      throw Error(Code::kInvalidArgument, "topk_ids: token ", static_cast<std::int64_t>(i) / problem.top_k,
                  " asks for expert ", id, ", accepted: 0 to ", problem.experts - 1, ", ", kDroppedExpert,
                  " (dropped) or ", kPoisonedExpert, " (poisoned)");
  }
}

}  // namespace megamoe
