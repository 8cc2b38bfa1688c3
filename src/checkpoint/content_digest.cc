#include "checkpoint/content_digest.h"

#include "base/threads.h"

namespace megamoe {
namespace {

std::span<const std::byte> bytes_of(const ConstTensorView& view) {
  return {static_cast<const std::byte*>(view.data), static_cast<std::size_t>(view.bytes())};
}

// `bytes_at` gives the bytes of a tensor by its position, `done_with` gets them back.
template <class BytesAt, class DoneWith>
std::vector<Xxh3Digest> digests_of(std::size_t tensors, const BytesAt& bytes_at, const DoneWith& done_with) {
  std::vector<Xxh3Digest> digests(tensors);
  const Threads threads;
  threads.each(static_cast<std::int64_t>(tensors), [&](std::int64_t step, int) {
    const auto i = static_cast<std::size_t>(step);
    const std::span<const std::byte> bytes = bytes_at(i);
    digests[i] = xxh3(bytes);
    done_with(bytes);
  });
  return digests;
}

}  // namespace

std::vector<Xxh3Digest> tensor_digests(std::span<const ConstTensorView> tensors) {
  return digests_of(
      tensors.size(), [&](std::size_t i) { return bytes_of(tensors[i]); }, [](std::span<const std::byte>) {});
}

// The thread that has looked at pages gives them back: unmapping the whole file afterwards is one thread's work, two
// thirds of the time that all threads need to read it back (tmpfs).
std::vector<Xxh3Digest> tensor_digests(const SafetensorsFile& file) {
  return digests_of(
      file.tensors().size(), [&](std::size_t i) { return bytes_of(file.view(file.tensors()[i])); },
      [&](std::span<const std::byte> bytes) { file.file().forget(bytes); });
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
