// Canonical matrices in host memory into the packed layout on the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "backends/cuda/sm90/pack.h"
#include "megamoe/buffer.h"
#include "megamoe/moe.h"

namespace megamoe::sm90 {

// Throws kInvalidArgument for a block scale that is negative or NaN: UE5M3 holds neither. `what` names the matrix in
// the sentence: "expert 3's gate".
void check_scales(const std::string& what, const MatrixView& matrix);

// Of a matrix of so many elements: codes and scales, or bf16.
std::size_t canonical_bytes(WeightFormat format, std::int64_t elements);

// Copies matrices into `staging` on the device, one behind the other, and packs them there.
class Packer {
 public:
  explicit Packer(Buffer& staging) : staging_(staging) {}

  // `up` where the matrix is a gate, else nullptr. `packed` is device memory. The work is submitted, not awaited.
  void pack(const MatrixView& matrix, const MatrixView* up, std::byte* packed);

 private:
  void copy(const MatrixView& matrix, const std::byte*& data, const std::byte*& sf);
  const std::byte* upload(const std::byte* from, std::size_t bytes);

  Buffer& staging_;
  std::size_t used_ = 0;
};

}  // namespace megamoe::sm90
