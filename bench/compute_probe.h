// What this machine's vector units multiply at best: the ceiling beside which a layer of many tokens is judged.
#pragma once

#include <string_view>

namespace megamoe::bench {

class ComputeProbe {
 public:
  explicit ComputeProbe(int threads);  // 0: all of this machine

  // Operations a second of all threads together, one multiplication and one addition being two; about 20 ms of the best
  // instruction there is, on registers. 0 where none is known.
  double int8_once() const;
  double bf16_once() const;  // bf16 products in f32 sums

  static std::string_view int8_instruction();
  static std::string_view bf16_instruction();

 private:
  int threads_;
};

}  // namespace megamoe::bench
