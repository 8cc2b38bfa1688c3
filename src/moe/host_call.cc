#include "megamoe/host_call.h"

#include "moe/check_args.h"

namespace megamoe {
namespace {

template <class T>
std::span<T> place(Buffer& buffer, std::span<T> host) {
  return buffer.as<T>().first(host.size());
}

template <class T>
std::span<const T> copied(Buffer& buffer, std::span<const T> host) {
  buffer.upload(std::as_bytes(host));
  return buffer.as<const T>().first(host.size());
}

}  // namespace

HostCall::HostCall(const Plan& plan) : plan_(&plan), workspace_(plan.memory(), plan.workspace_bytes()) {
  if (plan.memory() == MemoryKind::kHost) return;
  const Problem& problem = plan.problem();
  const auto values = static_cast<std::size_t>(plan.max_tokens() * problem.hidden);
  const auto choices = static_cast<std::size_t>(plan.max_tokens() * problem.top_k);
  x_ = Buffer(plan.memory(), values * sizeof(std::uint16_t));
  topk_ids_ = Buffer(plan.memory(), choices * sizeof(std::int32_t));
  topk_weights_ = Buffer(plan.memory(), choices * sizeof(float));
  output_ = Buffer(plan.memory(), values * sizeof(float));
}

void HostCall::run(RunArgs args) {
  args.workspace = workspace_.as<std::byte>();
  if (plan_->memory() == MemoryKind::kHost) return plan_->run(args);
  check_sizes(plan_->problem(), plan_->max_tokens(), plan_->workspace_bytes(), args);
  check_ids(plan_->problem(), args.topk_ids);
  run_on_device(args);
}

void HostCall::run_on_device(const RunArgs& host) {
  RunArgs device = host;
  device.x = copied(x_, host.x);
  device.topk_ids = copied(topk_ids_, host.topk_ids);
  device.topk_weights = copied(topk_weights_, host.topk_weights);
  device.output = place(output_, host.output);
  device.output_f32 = place(output_, host.output_f32);
  plan_->run(device);
  output_.download(std::as_writable_bytes(host.output));
  output_.download(std::as_writable_bytes(host.output_f32));
}

}  // namespace megamoe
