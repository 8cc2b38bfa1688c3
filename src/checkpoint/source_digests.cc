#include "checkpoint/source_digests.h"

#include "checkpoint/content_digest.h"

namespace megamoe {

SourceDigests::SourceDigests(const std::vector<const Tensor*>& tensors) {
  for (const Tensor* tensor : tensors) {
    position_.emplace(tensor, entries_.size());
    entries_.push_back({.tensor = tensor, .is_known = false, .digest = {}});
  }
}

void SourceDigests::set(const Tensor& tensor, const Xxh3Digest& digest) {
  Entry& entry = entries_[position_.at(&tensor)];
  entry.digest = digest;
  entry.is_known = true;
}

std::vector<Xxh3Digest> SourceDigests::complete() {
  std::vector<ConstTensorView> unknown;
  for (const Entry& entry : entries_)
    if (!entry.is_known) unknown.push_back(entry.tensor->view);
  const std::vector<Xxh3Digest> computed = tensor_digests(unknown);
  std::vector<Xxh3Digest> all;
  auto next = computed.begin();
  for (const Entry& entry : entries_) all.push_back(entry.is_known ? entry.digest : *next++);
  return all;
}

}  // namespace megamoe
