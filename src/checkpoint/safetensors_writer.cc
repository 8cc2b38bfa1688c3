#include "checkpoint/safetensors_writer.h"

#include <algorithm>
#include <numeric>

#include "checkpoint/content_digest.h"
#include "checkpoint/hex.h"
#include "checkpoint/quote.h"
#include "checkpoint/safetensors.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

std::span<const std::byte> bytes_of(ConstTensorView view) {
  return {static_cast<const std::byte*>(view.data), static_cast<std::size_t>(view.bytes())};
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(OutputDirectory& output, std::string name, std::vector<TensorSpec> tensors,
                                     const SafetensorsMetadata& metadata)
    : output_(output),
      name_(std::move(name)),
      layout_(layout_safetensors(std::move(tensors), metadata, output.target().path + "/" + name_)),
      file_(output.target(), name_),
      by_name_(layout_.tensors.size()),
      done_bytes_(layout_.tensors.size(), 0),
      digests_(layout_.tensors.size(), xxh3({})),
      open_(layout_.tensors.size()) {
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return layout_.tensors[a].name < layout_.tensors[b].name; });
  file_.allocate(layout_.file_bytes());
  file_.write_at(0, std::as_bytes(std::span(layout_.prefix)));
}

std::size_t SafetensorsWriter::position_of(std::string_view tensor) const {
  const auto at =
      std::lower_bound(by_name_.begin(), by_name_.end(), tensor,
                       [&](std::uint32_t i, std::string_view wanted) { return layout_.tensors[i].name < wanted; });
  if (at == by_name_.end() || layout_.tensors[*at].name != tensor)
    throw Error(Code::kInvalidArgument, name_, ": asked to write tensor ", quote(tensor), ", which was not planned");
  return *at;
}

void SafetensorsWriter::append(std::string_view tensor, std::span<const std::byte> bytes) {
  const std::size_t position = position_of(tensor);
  const TensorInfo& info = layout_.tensors[position];
  std::uint64_t& done_bytes = done_bytes_[position];
  if (bytes.size() > info.bytes() - done_bytes)
    throw Error(Code::kInvalidArgument, name_, ": tensor ", quote(tensor), ": asked to write ", bytes.size(),
                " bytes, accepted: ", info.bytes() - done_bytes, " more");
  if (bytes.empty()) return;
  file_.write_at(layout_.prefix.size() + info.begin + done_bytes, bytes);
  done_bytes += bytes.size();
  std::unique_ptr<Xxh3>& hash = open_[position];
  if (hash == nullptr) hash = std::make_unique<Xxh3>();
  hash->update(bytes);
  if (done_bytes < info.bytes()) return;
  file_.start_sync(layout_.prefix.size() + info.begin, info.bytes());
  digests_[position] = hash->finish();
  hash.reset();
}

Xxh3Digest SafetensorsWriter::write(std::string_view tensor, ConstTensorView view) {
  const std::size_t position = position_of(tensor);
  const TensorInfo& info = layout_.tensors[position];
  if (view.dtype != info.dtype || view.shape != info.shape)
    throw Error(Code::kInvalidArgument, name_, ": tensor ", quote(tensor), ": asked to write ", view.shape.to_string(),
                " ", dtype_name(view.dtype), ", planned ", info.shape.to_string(), " ", dtype_name(info.dtype));
  append(tensor, bytes_of(view));
  return digests_[position];
}

void SafetensorsWriter::finish(std::span<const Xxh3Digest> sources) {
  for (std::size_t i = 0; i < layout_.tensors.size(); ++i)
    if (done_bytes_[i] != layout_.tensors[i].bytes())
      throw Error(Code::kInvalidArgument, name_, ": tensor ", quote(layout_.tensors[i].name), ": has ", done_bytes_[i],
                  " bytes, planned ", layout_.tensors[i].bytes());

  // Synced before it is read back, so that what is compared comes from the disk where the system can drop its cache.
  file_.sync();
  const auto prefix = std::as_bytes(std::span(layout_.prefix));
  {
    const SafetensorsFile written(file_.open_for_reading());
    const std::vector<Xxh3Digest> found = tensor_digests(written);
    for (std::size_t i = 0; i < digests_.size(); ++i)
      if (found[i] != digests_[i])
        throw Error(Code::kBadFile, written.path(), ": tensor ", quote(layout_.tensors[i].name),
                    ": the disk gave back other bytes than were written");
  }
  file_.publish(/*replace=*/false);
  output_.record(name_, {.bytes = layout_.file_bytes(),
                         .content = to_hex(combine_digests(prefix, digests_)),
                         .sources = to_hex(combine_digests({}, sources))});
}

}  // namespace megamoe
