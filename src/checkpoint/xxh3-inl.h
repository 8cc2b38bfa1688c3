// XXH3 compiled for the instruction set of the file that includes this, in a namespace of its own. Everything of
// xxhash.h is static there, so nothing compiled for AVX2 can be linked into code for older machines.

#if defined(__x86_64__) && !defined(__AVX2__)
#define XXH_VECTOR XXH_SSE2
#endif
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace megamoe {
namespace {

struct Functions {
  static void start(void* state) { XXH3_128bits_reset(static_cast<XXH3_state_t*>(state)); }
  static void update(void* state, const void* data, size_t bytes) {
    XXH3_128bits_update(static_cast<XXH3_state_t*>(state), data, bytes);
  }
  static void finish(const void* state, unsigned char* digest) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(static_cast<const XXH3_state_t*>(state)));
    for (int i = 0; i < 16; ++i) digest[i] = canonical.digest[i];
  }
};

constexpr Xxh3Functions kFunctions{Functions::start, Functions::update, Functions::finish};
static_assert(sizeof(XXH3_state_t) <= kXxh3StateBytes && alignof(XXH3_state_t) <= kXxh3StateAlign);

}  // namespace
}  // namespace megamoe
