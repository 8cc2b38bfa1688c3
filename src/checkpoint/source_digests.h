// What the source tensors of one shard hash to. Who reads a tensor anyway says so; the rest is hashed at the end.
#pragma once

#include <unordered_map>
#include <vector>

#include "checkpoint/model.h"
#include "checkpoint/xxh3.h"

namespace megamoe {

class SourceDigests {
 public:
  explicit SourceDigests(const std::vector<const Tensor*>& tensors);

  // `tensor` is one of them. From any thread, for different tensors.
  void set(const Tensor& tensor, const Xxh3Digest& digest);
  // In the order of the tensors.
  std::vector<Xxh3Digest> complete();

 private:
  struct Entry {
    const Tensor* tensor;
    bool is_known;
    Xxh3Digest digest;
  };
  std::vector<Entry> entries_;
  std::unordered_map<const Tensor*, std::size_t> position_;
};

}  // namespace megamoe
