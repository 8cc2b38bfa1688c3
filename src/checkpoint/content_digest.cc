#include "checkpoint/content_digest.h"

#include "base/threads.h"

namespace megamoe {

std::vector<Xxh3Digest> tensor_digests(std::span<const ConstTensorView> tensors) {
  std::vector<Xxh3Digest> digests(tensors.size());
  const Threads threads;
  threads.each(static_cast<std::int64_t>(tensors.size()), [&](std::int64_t step, int) {
    const auto i = static_cast<std::size_t>(step);
    digests[i] = xxh3({static_cast<const std::byte*>(tensors[i].data), static_cast<std::size_t>(tensors[i].bytes())});
  });
  return digests;
}

std::vector<Xxh3Digest> tensor_digests(const SafetensorsFile& file) {
  std::vector<ConstTensorView> views;
  views.reserve(file.tensors().size());
  for (const TensorInfo& tensor : file.tensors()) views.push_back(file.view(tensor));
  return tensor_digests(views);
}

Xxh3Digest combine_digests(std::span<const std::byte> first, std::span<const Xxh3Digest> tensors) {
  Xxh3 hash;
  hash.update(first);
  hash.update(std::as_bytes(tensors));
  return hash.finish();
}

Xxh3Digest content_digest(const SafetensorsFile& file) {
  const auto prefix = file.file().bytes().first(static_cast<std::size_t>(file.data_begin()));
  return combine_digests(prefix, tensor_digests(file));
}

}  // namespace megamoe
