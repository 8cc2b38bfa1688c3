#include "support/placed_inputs.h"

namespace megamoe::test {
namespace {

template <class T>
std::span<const T> placed(Buffer& buffer, MemoryKind kind, const std::vector<T>& values) {
  if (kind == MemoryKind::kHost) return values;
  buffer = Buffer(kind, values.size() * sizeof(T));
  buffer.upload(std::as_bytes(std::span(values)));
  return buffer.as<const T>();
}

}  // namespace

PlacedInputs::PlacedInputs(const Case& c, MemoryKind kind) {
  args_.tokens = c.test.tokens;
  args_.x = placed(x_, kind, c.x);
  args_.topk_ids = placed(topk_ids_, kind, c.ids);
  args_.topk_weights = placed(topk_weights_, kind, c.topk_weights);
}

}  // namespace megamoe::test
