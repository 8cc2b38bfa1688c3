#include "checkpoint/xxh3.h"

#include "checkpoint/xxh3-inl.h"

namespace megamoe {
namespace {

const Xxh3Functions& functions_of_this_machine() {
#if defined(__x86_64__)
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  if (has_avx2) return xxh3_avx2();
#endif
  return kFunctions;
}

}  // namespace

Xxh3::Xxh3() : functions_(&functions_of_this_machine()) { functions_->start(state_); }

void Xxh3::update(std::span<const std::byte> bytes) { functions_->update(state_, bytes.data(), bytes.size()); }

Xxh3Digest Xxh3::finish() const {
  Xxh3Digest digest{};
  functions_->finish(state_, digest.data());
  return digest;
}

Xxh3Digest xxh3(std::span<const std::byte> bytes) {
  Xxh3 hash;
  hash.update(bytes);
  return hash.finish();
}

}  // namespace megamoe
