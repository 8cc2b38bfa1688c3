#include "backends/cuda/plan/device_call.h"

#include <cstdlib>

#include "backends/cuda/plan/first_difference.h"

namespace megamoe::sm90::test {
namespace {

constexpr std::uint8_t kCanary = 0xA5;
constexpr const char* kForced = "MEGAMOE_SM90_KERNEL";

void fill(std::byte* at, std::uint8_t value, std::size_t bytes, cudaStream_t stream) {
  cuda_check(cudaMemsetAsync(at, value, bytes, stream), "poison");
}

template <class T>
void upload(Buffer& buffer, const std::vector<T>& values) {
  buffer.upload(std::as_bytes(std::span(values)));
}

}  // namespace

std::shared_ptr<const PreparedWeights> prepared(const Problem& problem, const ExpertSource& source) {
  return prepare(problem, source, {.backend = std::string(sm90_backend().name())});
}

std::string_view host_backend(const Problem& problem) {
  for (const Candidate& candidate : candidates(problem))
    if (candidate.refusal.empty() && candidate.backend != sm90_backend().name()) return candidate.backend;
  throw Error(Code::kInternal, "no backend of the host takes ", problem.to_string());
}

ForcedKernel::ForcedKernel(const Kernel& kernel) { setenv(kForced, std::string(kernel.name).c_str(), 1); }
ForcedKernel::~ForcedKernel() { unsetenv(kForced); }

const Kernel& chosen_kernel(const Problem& problem, std::int64_t tokens) {
  return choose({.weights = problem.weights,
                 .hidden = problem.hidden,
                 .inter = problem.inter,
                 .rows = tokens * problem.top_k,
                 .active = expected_active(problem.experts, problem.top_k, tokens)})
      .usual();
}

DeviceInputs::DeviceInputs(const Problem& problem, std::int64_t max_tokens)
    : hidden_(problem.hidden),
      top_k_(problem.top_k),
      x_(MemoryKind::kCuda, static_cast<std::size_t>(max_tokens * hidden_) * sizeof(std::uint16_t)),
      topk_ids_(MemoryKind::kCuda, static_cast<std::size_t>(max_tokens * top_k_) * sizeof(std::int32_t)),
      topk_weights_(MemoryKind::kCuda, static_cast<std::size_t>(max_tokens * top_k_) * sizeof(float)) {}

void DeviceInputs::write(const Case& c) {
  upload(x_, c.x);
  upload(topk_ids_, c.ids);
  upload(topk_weights_, c.topk_weights);
}

RunArgs DeviceInputs::args(std::int64_t tokens) const {
  const auto choices = static_cast<std::size_t>(tokens * top_k_);
  RunArgs args;
  args.tokens = tokens;
  args.x = x_.as<const std::uint16_t>().first(static_cast<std::size_t>(tokens * hidden_));
  args.topk_ids = topk_ids_.as<const std::int32_t>().first(choices);
  args.topk_weights = topk_weights_.as<const float>().first(choices);
  return args;
}

Differences::Differences() : first_(MemoryKind::kCuda, sizeof(std::uint64_t)) {
  const std::uint64_t none = kNoDifference;
  first_.upload(std::as_bytes(std::span(&none, 1)));
}

void Differences::compare(const void* a, const void* b, std::size_t bytes, std::int64_t index, cudaStream_t stream) {
  find_first_difference(static_cast<const std::byte*>(a), static_cast<const std::byte*>(b), bytes,
                        static_cast<std::uint64_t>(index) << kByteBits, first_.as<std::uint64_t>().data(), stream);
}

std::string Differences::first(std::int64_t columns) const {
  std::uint64_t found = 0;
  first_.download(std::as_writable_bytes(std::span(&found, 1)));
  if (found == kNoDifference) return {};
  const auto byte = static_cast<std::int64_t>(found & ((std::uint64_t{1} << kByteBits) - 1));
  const std::int64_t element = byte / static_cast<std::int64_t>(sizeof(std::uint16_t));
  const std::string where =
      columns == 0 ? "byte " + std::to_string(byte)
                   : "row " + std::to_string(element / columns) + ", column " + std::to_string(element % columns);
  return where + " of comparison " + std::to_string(found >> kByteBits);
}

GuardedBlock::GuardedBlock(std::size_t most_bytes, std::size_t skew)
    : skew_(skew), block_(MemoryKind::kCuda, most_bytes + skew + 2 * kGuard), canaries_(MemoryKind::kCuda, kGuard) {
  canaries_.upload(std::vector<std::byte>(kGuard, std::byte{kCanary}));
}

std::span<std::byte> GuardedBlock::lay(std::size_t bytes, std::uint8_t poison, cudaStream_t stream) {
  if (bytes + skew_ + 2 * kGuard > block_.size())
    throw Error(Code::kInternal, "guarded block: asked ", bytes, " bytes, accepted: up to ",
                block_.size() - skew_ - 2 * kGuard);
  bytes_ = bytes;
  fill(begin() - kGuard, kCanary, kGuard, stream);
  fill(begin(), poison, bytes, stream);
  fill(begin() + bytes, kCanary, kGuard, stream);
  return {begin(), bytes};
}

void GuardedBlock::compare_canaries(Differences& differences, std::int64_t index, cudaStream_t stream) const {
  differences.compare(begin() - kGuard, canaries_.data(), kGuard, index, stream);
  differences.compare(begin() + bytes_, canaries_.data(), kGuard, index, stream);
}

int repeats(int otherwise) {
  const char* text = std::getenv("MEGAMOE_RERUNS");
  return text != nullptr ? std::atoi(text) : otherwise;
}

}  // namespace megamoe::sm90::test
