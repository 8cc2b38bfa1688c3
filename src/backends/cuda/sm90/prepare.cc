#include "backends/cuda/sm90/prepare.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "backends/cuda/sm90/packer.h"
#include "base/cuda_check.h"
#include "base/threads.h"
#include "megamoe/error.h"
#include "moe/check_expert.h"

namespace megamoe::sm90 {
namespace {

constexpr const char* kSharedGate = "shared.gate";  // section

}  // namespace

ExpertBank::ExpertBank(std::int64_t hidden, std::int64_t inter, std::int64_t experts, WeightFormat format,
                       bool has_bias)
    : hidden_(hidden), inter_(inter), experts_(experts), format_(format) {
  const auto count = static_cast<std::size_t>(experts);
  gate_up_ = Buffer(MemoryKind::kCuda, count * static_cast<std::size_t>(matrix_bytes(format, 2 * inter, hidden)));
  down_ = Buffer(MemoryKind::kCuda, count * static_cast<std::size_t>(matrix_bytes(format, hidden, inter)));
  host_scalars_.resize(5 * count);
  if (has_bias) host_biases_.resize(count * static_cast<std::size_t>(2 * inter + hidden));
}

GemmWeights ExpertBank::gemm(GemmKind kind) const {
  const float* scalars = scalars_.as<float>().data();
  const float* biases = biases_.as<float>().data();
  const bool first = kind == GemmKind::kGateUp;
  const std::int64_t features = first ? 2 * inter_ : hidden_;
  GemmWeights weights{.packed = first ? gate_up_.data() : down_.data(),
                      .panels = static_cast<std::int32_t>(panels_of(features)),
                      .channels = static_cast<std::int32_t>(first ? inter_ : hidden_),
                      .k = static_cast<std::int32_t>(first ? hidden_ : inter_)};
  weights.expert_bytes = matrix_bytes(format_, features, weights.k);
  weights.scale[0] = first ? scalars : scalars + 2 * experts_;
  weights.scale[1] = first ? scalars + experts_ : nullptr;
  if (biases == nullptr) return weights;
  weights.bias[0] = first ? biases : biases + 2 * experts_ * inter_;
  weights.bias[1] = first ? biases + experts_ * inter_ : nullptr;
  return weights;
}

std::size_t ExpertBank::staging_bytes() const { return canonical_bytes(format_, 3 * hidden_ * inter_); }

void ExpertBank::store(std::int64_t expert, const ExpertView& view, Buffer& staging) {
  const std::string owner = "expert " + std::to_string(expert) + "'s ";
  check_scales(owner + "gate", view.gate);
  check_scales(owner + "up", view.up);
  check_scales(owner + "down", view.down);
  Packer packer(staging);
  packer.pack(view.gate, &view.up, gate_up_.data() + expert * gemm(GemmKind::kGateUp).expert_bytes);
  packer.pack(view.down, nullptr, down_.data() + expert * gemm(GemmKind::kDown).expert_bytes);

  const bool scaled = format_ == WeightFormat::kNvfp4;
  const float scalars[] = {scaled ? view.gate.global_scale : 1.0f, scaled ? view.up.global_scale : 1.0f,
                           scaled ? view.down.global_scale : 1.0f, view.gate_up_input_scale, view.down_input_scale};
  for (std::int64_t i = 0; i < 5; ++i) host_scalars_[static_cast<std::size_t>(i * experts_ + expert)] = scalars[i];
  if (host_biases_.empty()) return;
  const auto place = [&](std::span<const float> bias, std::int64_t at) {
    std::copy(bias.begin(), bias.end(), host_biases_.begin() + at);
  };
  place(view.gate_bias, expert * inter_);
  place(view.up_bias, (experts_ + expert) * inter_);
  place(view.down_bias, 2 * experts_ * inter_ + expert * hidden_);
}

void ExpertBank::finish() {
  const auto moved = [](std::vector<float>& host) {
    Buffer device(MemoryKind::kCuda, host.size() * sizeof(float));
    device.upload(std::as_bytes(std::span(host)));
    host = {};
    return device;
  };
  scalars_ = moved(host_scalars_);
  biases_ = moved(host_biases_);
  cuda_check(cudaDeviceSynchronize(), "packing weights");
}

void ExpertBank::load(const std::string& prefix, const SectionSource& source) {
  const auto copy = [&](const char* name, std::vector<float>& host) {
    const std::span<const std::byte> bytes = source.section(prefix + name, host.size() * sizeof(float));
    std::memcpy(host.data(), bytes.data(), bytes.size());
  };
  gate_up_.upload(source.section(prefix + ".gate_up", gate_up_.size()));
  down_.upload(source.section(prefix + ".down", down_.size()));
  copy(".scalars", host_scalars_);
  if (!host_biases_.empty()) copy(".biases", host_biases_);
  finish();
}

void ExpertBank::add_sections(const std::string& prefix, std::vector<Section>& out) const {
  const auto add = [&](const char* name, const Buffer& buffer) {
    if (buffer.size() != 0) out.push_back({prefix + name, buffer.as<std::byte>(), MemoryKind::kCuda});
  };
  add(".gate_up", gate_up_);
  add(".down", down_);
  add(".scalars", scalars_);
  add(".biases", biases_);
}

Sm90Weights::Sm90Weights(const Problem& problem, const SectionSource& source)
    : problem_(problem), routed_(problem.hidden, problem.inter, problem.experts, problem.weights, problem.has_bias) {
  routed_.load("routed", source);
  if (problem.shared.inter == 0) return;
  shared_ = ExpertBank(problem.hidden, problem.shared.inter, 1, problem.shared.weights, false);
  shared_.load("shared", source);
  if (!problem.shared.gated) return;
  shared_gate_ = Buffer(MemoryKind::kCuda, static_cast<std::size_t>(problem.hidden) * sizeof(float));
  shared_gate_.upload(source.section(kSharedGate, shared_gate_.size()));
}

std::vector<Section> Sm90Weights::sections() const {
  std::vector<Section> all;
  routed_.add_sections("routed", all);
  shared_.add_sections("shared", all);
  if (shared_gate_.size() != 0) all.push_back({kSharedGate, shared_gate_.as<std::byte>(), MemoryKind::kCuda});
  return all;
}

Sm90Weights::Sm90Weights(const Problem& problem, const ExpertSource& source, int threads)
    : problem_(problem), routed_(problem.hidden, problem.inter, problem.experts, problem.weights, problem.has_bias) {
  // Making an expert may cost the source much (a conversion): that runs on all threads, the way to the device on one.
  const Threads pool(threads);
  std::vector<ExpertScratch> scratch(static_cast<std::size_t>(pool.count()));
  Buffer staging(MemoryKind::kCuda, routed_.staging_bytes());
  std::mutex one;
  pool.each(problem.experts, [&](std::int64_t expert, int worker) {
    const ExpertView view = source.expert(expert, scratch[static_cast<std::size_t>(worker)]);
    check_expert(problem, expert, view);
    const std::lock_guard lock(one);
    routed_.store(expert, view, staging);
  });
  routed_.finish();
  if (problem.shared.inter == 0) return;

  shared_ = ExpertBank(problem.hidden, problem.shared.inter, 1, problem.shared.weights, false);
  const ExpertView view = source.shared_expert(scratch.front());
  const std::span<const float> gate = source.shared_gate();
  check_shared_expert(problem, view, gate);
  Buffer shared_staging(MemoryKind::kCuda, shared_.staging_bytes());
  shared_.store(0, view, shared_staging);
  shared_.finish();
  if (gate.empty()) return;
  shared_gate_ = Buffer(MemoryKind::kCuda, gate.size_bytes());
  shared_gate_.upload(std::as_bytes(gate));
}

}  // namespace megamoe::sm90
