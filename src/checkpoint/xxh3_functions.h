// What xxh3.cc needs of each instruction set. Includes nothing of the standard library: see xxh3-inl.h.
#pragma once

#include <stddef.h>

namespace megamoe {

struct Xxh3Functions {
  void (*start)(void* state);
  void (*update)(void* state, const void* data, size_t bytes);
  void (*finish)(const void* state, unsigned char* digest);
};

constexpr size_t kXxh3StateBytes = 576;
constexpr size_t kXxh3StateAlign = 64;

#if defined(__x86_64__)
const Xxh3Functions& xxh3_avx2();
#endif

}  // namespace megamoe
