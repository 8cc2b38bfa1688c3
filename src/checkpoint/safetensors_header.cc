#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <unordered_set>

#include "checkpoint/quote.h"
#include "checkpoint/strict_json.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

// The shortest entry: "":{"dtype":"U8","shape":[],"data_offsets":[0,1]}
constexpr std::size_t kMinTensorBytes = 48;
constexpr std::string_view kMetadataKey = "__metadata__";

std::string accepted_dtypes() {
  std::string names;
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i)
    names += std::string(i ? ", " : "") + std::string(dtype_name(static_cast<DType>(i)));
  return names;
}

class HeaderReader {
 public:
  HeaderReader(std::string text, std::uint64_t data_bytes, const std::string& file)
      : data_bytes_(data_bytes), file_(file), json_(std::move(text), file + ": header") {}

  SafetensorsHeader read() {
    // Room for the most tensors there can be: growing step by step would hold the list twice.
    header_.tensors.reserve(std::min(kMaxTensors, json_.size() / kMinTensorBytes));
    json_.read_root([&](StrictJson::Object root) {
      json_.each_field(root, [&](std::string_view key, StrictJson::Value value) {
        if (key == kMetadataKey)
          read_metadata(value);
        else
          read_tensor(key, value);
      });
    });
    require_distinct_names();
    require_exact_cover();
    return std::move(header_);
  }

 private:
  void read_metadata(StrictJson::Value value) {
    at_ = StrictJson::start(value);
    if (has_metadata_) json_.fail_at(at_, "__metadata__: duplicate key");
    has_metadata_ = true;
    if (!StrictJson::is_object(value)) json_.fail_at(at_, "__metadata__: accepted: an object of strings");
    std::unordered_set<std::string> keys;
    json_.each_field(value.get_object().value(), [&](std::string_view key, StrictJson::Value entry) {
      at_ = StrictJson::start(entry);
      if (!keys.emplace(key).second) json_.fail_at(at_, "__metadata__: duplicate key ", quote(key));
      if (keys.size() > kMaxMetadataEntries)
        json_.fail_at(at_, "__metadata__: accepted: at most ", kMaxMetadataEntries, " entries");
      if (!StrictJson::is_string(entry)) json_.fail_at(at_, "__metadata__: ", quote(key), ": accepted: a string");
      header_.metadata.emplace_back(key, std::string_view(entry.get_string().value()));
    });
  }

  void read_tensor(std::string_view name, StrictJson::Value value) {
    at_ = StrictJson::start(value);
    if (name.size() > kMaxTensorNameBytes)
      json_.fail_at(at_, "tensor ", quote(name), ": name has ", name.size(), " bytes, accepted: at most ",
                    kMaxTensorNameBytes);
    if (!is_printable_name(name)) json_.fail_at(at_, "tensor ", quote(name), ": name has a control character");
    if (header_.tensors.size() == kMaxTensors) json_.fail_at(at_, "accepted: at most ", kMaxTensors, " tensors");
    what_ = "tensor " + quote(name) + ": ";
    if (!StrictJson::is_object(value)) json_.fail_at(at_, what_, "accepted: an object of dtype, shape, data_offsets");

    TensorInfo& tensor = header_.tensors.emplace_back();
    tensor.name = name;
    bool has_dtype = false, has_shape = false, has_offsets = false;
    json_.each_field(value.get_object().value(), [&](std::string_view field, StrictJson::Value content) {
      if (field == "dtype") {
        mark(has_dtype, field);
        tensor.dtype = read_dtype(content);
      } else if (field == "shape") {
        mark(has_shape, field);
        tensor.shape = read_shape(content);
      } else if (field == "data_offsets") {
        mark(has_offsets, field);
        read_offsets(content, tensor);
      } else {
        json_.fail_at(at_, what_, "found field ", quote(field), ", accepted: dtype, shape, data_offsets");
      }
    });
    if (!has_dtype || !has_shape || !has_offsets)
      json_.fail_at(at_, what_, "missing field ", !has_dtype ? "dtype" : !has_shape ? "shape" : "data_offsets");
    require_size(tensor);
  }

  void mark(bool& seen, std::string_view field) {
    if (seen) json_.fail_at(at_, what_, "duplicate key ", quote(field));
    seen = true;
  }

  DType read_dtype(StrictJson::Value value) {
    if (!StrictJson::is_string(value)) json_.fail_at(at_, what_, "dtype: accepted: a string");
    const std::string_view name = value.get_string().value();
    DType dtype{};
    if (!parse_dtype(name, &dtype))
      json_.fail_at(at_, what_, "dtype: found ", quote(name), ", accepted: ", accepted_dtypes());
    return dtype;
  }

  Shape read_shape(StrictJson::Value value) {
    if (!StrictJson::is_array(value)) json_.fail_at(at_, what_, "shape: accepted: an array of integers");
    std::array<std::int64_t, kMaxRank> dims{};
    std::size_t rank = 0;
    for (auto element : value.get_array()) {
      if (rank == dims.size()) json_.fail_at(at_, what_, "shape: accepted: at most ", kMaxRank, " dimensions");
      const std::uint64_t dim = json_.plain_integer(element.value(), what_ + "shape");
      if (dim > static_cast<std::uint64_t>(kMaxDim))
        json_.fail_at(at_, what_, "shape: found dimension ", dim, ", accepted: at most 2^48");
      dims[rank++] = static_cast<std::int64_t>(dim);
    }
    return Shape(std::span<const std::int64_t>(dims.data(), rank));
  }

  void read_offsets(StrictJson::Value value, TensorInfo& tensor) {
    if (!StrictJson::is_array(value)) json_.fail_at(at_, what_, "data_offsets: accepted: an array of two integers");
    std::array<std::uint64_t, 2> offsets{};
    std::size_t count = 0;
    for (auto element : value.get_array()) {
      if (count == offsets.size()) json_.fail_at(at_, what_, "data_offsets: accepted: two integers");
      offsets[count++] = json_.plain_integer(element.value(), what_ + "data_offsets");
    }
    if (count != offsets.size()) json_.fail_at(at_, what_, "data_offsets: found ", count, " integers, accepted: two");
    if (offsets[0] > offsets[1])
      json_.fail_at(at_, what_, "data_offsets: begin ", offsets[0], " is behind end ", offsets[1]);
    if (offsets[1] > data_bytes_)
      json_.fail_at(at_, what_, "data_offsets: end ", offsets[1], " is behind the ", data_bytes_,
                    " bytes of data in the file");
    tensor.begin = offsets[0];
    tensor.end = offsets[1];
  }

  void require_size(const TensorInfo& tensor) {
    const std::uint64_t bytes = checked_tensor_bytes(tensor.shape, tensor.dtype, file_ + ": header: " + what_);
    if (bytes != tensor.bytes())
      json_.fail_at(at_, what_, "shape ", tensor.shape.to_string(), " of ", dtype_name(tensor.dtype), " needs ", bytes,
                    " bytes, data_offsets give ", tensor.bytes());
  }

  void require_distinct_names() const {
    std::vector<std::uint32_t> order(header_.tensors.size());
    std::iota(order.begin(), order.end(), 0u);
    const auto name = [&](std::uint32_t i) -> const std::string& { return header_.tensors[i].name; };
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return name(a) < name(b); });
    const auto twin = std::adjacent_find(order.begin(), order.end(),
                                         [&](std::uint32_t a, std::uint32_t b) { return name(a) == name(b); });
    if (twin != order.end())
      throw Error(Code::kBadFile, file_, ": header: tensor ", quote(name(*twin)), ": duplicate key");
  }

  // Sorts by place; then each tensor must begin where the one before ended, from 0 to the end of the data.
  void require_exact_cover() {
    std::stable_sort(header_.tensors.begin(), header_.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
      return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
    });
    std::uint64_t covered = 0;
    for (const TensorInfo& tensor : header_.tensors) {
      if (tensor.begin != covered)
        throw Error(Code::kBadFile, file_, ": header: tensor ", quote(tensor.name), ": data_offsets: begins at ",
                    tensor.begin, ", accepted: ", covered, ", where the tensor before it ends (",
                    tensor.begin < covered ? "overlap" : "hole", ")");
      covered = tensor.end;
    }
    if (covered != data_bytes_)
      throw Error(Code::kBadFile, file_, ": header: the tensors end at byte ", covered, " of the data, the file has ",
                  data_bytes_, " bytes of data");
  }

  std::uint64_t data_bytes_;
  const std::string& file_;
  StrictJson json_;
  SafetensorsHeader header_;
  bool has_metadata_ = false;
  const char* at_ = nullptr;  // start of the value in hand, for sentences
  std::string what_;          // "tensor 'x': ", for the tensor in hand
};

}  // namespace

std::uint64_t checked_tensor_bytes(const Shape& shape, DType dtype, std::string_view what) {
  // Zero dimensions are left out of the check so that [2^32, 2^32, 0] is refused in every order of its dimensions:
  // otherwise a partial product could overflow in code that multiplies from the left.
  const auto bits_per_element = static_cast<std::uint64_t>(dtype_bits(dtype));
  std::uint64_t bits = bits_per_element;
  bool is_empty = false;
  for (const std::int64_t dim : shape.dims()) {
    if (dim == 0) {
      is_empty = true;
      continue;
    }
    const auto factor = static_cast<std::uint64_t>(dim);
    if (bits > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / factor)
      throw Error(Code::kBadFile, what, "shape ", shape.to_string(), " of ", dtype_name(dtype), " overflows 2^63 bits");
    bits *= factor;
  }
  if (is_empty) return 0;
  if (bits % 8 != 0)
    throw Error(Code::kBadFile, what, "shape ", shape.to_string(), " of ", dtype_name(dtype), " has ", bits,
                " bits, accepted: whole bytes");
  return bits / 8;
}

std::uint64_t checked_header_length(std::span<const std::byte> first, std::uint64_t file_bytes,
                                    const std::string& file) {
  if (first.size() < kSafetensorsLengthBytes)
    throw Error(Code::kBadFile, file, ": found ", file_bytes, " bytes, a safetensors file has at least ",
                kSafetensorsLengthBytes);
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kSafetensorsLengthBytes; ++i)
    length |= std::to_integer<std::uint64_t>(first[i]) << (8 * i);
  if (length > kMaxHeaderBytes)
    throw Error(Code::kBadFile, file, ": header length: found ", length, ", accepted: at most ", kMaxHeaderBytes);
  const std::uint64_t behind = file_bytes - kSafetensorsLengthBytes;
  if (length > behind)
    throw Error(Code::kBadFile, file, ": header length: found ", length, ", the file has ", behind,
                " bytes behind it (truncated?)");
  if (length == 0) throw Error(Code::kBadFile, file, ": header length: found 0, accepted: 2 or more");
  return length;
}

SafetensorsHeader parse_safetensors_header(std::string json, std::uint64_t data_bytes, const std::string& file) {
  const std::size_t spaces = json.find_first_not_of(' ');
  if (spaces == std::string::npos)
    throw Error(Code::kBadFile, file, ": header byte 0: found only spaces, accepted: an object");
  if (json[spaces] != '{')
    throw Error(Code::kBadFile, file, ": header byte ", spaces, ": found ",
                quote(std::string_view(json).substr(spaces, 1)), ", accepted: '{'");
  SafetensorsHeader header = HeaderReader(std::move(json), data_bytes, file).read();
  if (spaces > 0)
    header.notes.push_back(file + ": the header begins with " + std::to_string(spaces) +
                           " spaces; other readers refuse that");
  return header;
}

}  // namespace megamoe
