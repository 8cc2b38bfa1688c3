// Reads tests/golden/seed_golden.safetensors: inputs and outputs of the Python program that this project grew from,
// as that program wrote them on a CPU. A minimal reader of its own, so that these bytes check the library, not the
// library's file reader.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "megamoe/tensor.h"

namespace megamoe::test {

class GoldenFile {
 public:
  GoldenFile();
  GoldenFile(const GoldenFile&) = delete;  // views point into bytes_
  GoldenFile& operator=(const GoldenFile&) = delete;

  // Throw for a name that the file does not have: a case that vanished must not pass.
  ConstTensorView view(const std::string& name) const { return tensors_.at(name); }
  std::vector<std::uint8_t> bytes(const std::string& name) const;
  float scalar(const std::string& name) const;

 private:
  std::vector<char> bytes_;
  std::map<std::string, ConstTensorView> tensors_;
};

}  // namespace megamoe::test
