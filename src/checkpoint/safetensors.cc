#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "checkpoint/quote.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

// Room behind the text that the JSON parser may read (not use), so that it need not copy the header.
constexpr std::size_t kParserPaddingBytes = 64;

}  // namespace

SafetensorsFile::SafetensorsFile(MappedFile file) : file_(std::move(file)) {
  std::array<std::byte, kSafetensorsLengthBytes> raw{};
  const auto first = std::span(raw).first(static_cast<std::size_t>(std::min<std::uint64_t>(raw.size(), file_.size())));
  file_.read_at(0, first);
  const std::uint64_t length = checked_header_length(first, file_.size(), file_.path());
  data_begin_ = kSafetensorsLengthBytes + length;
  // Copied, not parsed from the mapping: what was checked must be what is used, whatever others do to the file.
  std::string json;
  json.reserve(static_cast<std::size_t>(length) + kParserPaddingBytes);
  json.resize(static_cast<std::size_t>(length));
  file_.read_at(kSafetensorsLengthBytes, std::as_writable_bytes(std::span(json)));
  header_ = parse_safetensors_header(std::move(json), file_.size() - data_begin_, file_.path());

  by_name_.resize(header_.tensors.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::sort(by_name_.begin(), by_name_.end(),
            [&](std::uint32_t a, std::uint32_t b) { return header_.tensors[a].name < header_.tensors[b].name; });
}

const TensorInfo* SafetensorsFile::find_info(std::string_view name) const noexcept {
  const auto at =
      std::lower_bound(by_name_.begin(), by_name_.end(), name,
                       [&](std::uint32_t i, std::string_view wanted) { return header_.tensors[i].name < wanted; });
  if (at == by_name_.end() || header_.tensors[*at].name != name) return nullptr;
  return &header_.tensors[*at];
}

ConstTensorView SafetensorsFile::view(const TensorInfo& tensor) const noexcept {
  return {.data = file_.bytes().data() + data_begin_ + tensor.begin, .dtype = tensor.dtype, .shape = tensor.shape};
}

ConstTensorView SafetensorsFile::tensor(std::string_view name) const {
  const TensorInfo* info = find_info(name);
  if (info == nullptr) throw Error(Code::kBadFile, path(), ": has no tensor ", quote(name));
  return view(*info);
}

}  // namespace megamoe
