#include "checkpoint/shard_index.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "checkpoint/quote.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/strict_json.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

constexpr std::string_view kSafetensorsSuffix = ".safetensors";

class IndexReader {
 public:
  IndexReader(std::string text, const std::string& file) : file_(file), json_(std::move(text), file + ":") {}

  ShardIndex read() {
    json_.read_root([&](StrictJson::Object root) {
      json_.each_field(root, [&](std::string_view key, StrictJson::Value value) {
        at_ = StrictJson::start(value);
        if (key == "weight_map") {
          mark(has_weight_map_, key);
          read_weight_map(value);
        } else if (key == "metadata") {
          mark(has_metadata_, key);
          read_metadata(value);
        } else {
          json_.fail_at(at_, "found key ", quote(key), ", accepted: metadata, weight_map");
        }
      });
    });
    if (!has_weight_map_) throw Error(Code::kBadFile, file_, ": missing key 'weight_map'");
    number_shards_by_name();
    require_distinct_tensors();
    return std::move(index_);
  }

 private:
  void mark(bool& seen, std::string_view key) {
    if (seen) json_.fail_at(at_, "duplicate key ", quote(key));
    seen = true;
  }

  // Tools add keys of their own (total_parameters, versions): scalars pass, as nothing is read from them.
  void read_metadata(StrictJson::Value value) {
    if (!StrictJson::is_object(value)) json_.fail_at(at_, "metadata: accepted: an object");
    std::vector<std::string> keys;
    json_.each_field(value.get_object().value(), [&](std::string_view key, StrictJson::Value entry) {
      at_ = StrictJson::start(entry);
      if (std::find(keys.begin(), keys.end(), key) != keys.end())
        json_.fail_at(at_, "metadata: duplicate key ", quote(key));
      keys.emplace_back(key);
      if (keys.size() > kMaxMetadataKeys) json_.fail_at(at_, "metadata: accepted: at most ", kMaxMetadataKeys, " keys");
      if (key == "total_size")
        read_total_size(entry);
      else
        skip_scalar(key, entry);
    });
  }

  // Some writers computed the size in floating point. It only serves as a check, so such a number is noted, not
  // refused.
  void read_total_size(StrictJson::Value value) {
    if (value.type().value() != simdjson::ondemand::json_type::number)
      json_.fail_at(at_, "metadata: total_size: accepted: an integer");
    const std::string_view token = StrictJson::number_token(value);
    if (token.find_first_not_of("0123456789") == std::string_view::npos) {
      index_.total_size = json_.plain_integer(value, "metadata: total_size");
    } else {
      index_.notes.push_back(file_ + ": metadata: total_size " + quote(token) +
                             " is not a plain integer and is not checked");
      value.get_double().value();
    }
  }

  void skip_scalar(std::string_view key, StrictJson::Value value) {
    switch (value.type().value()) {
      case simdjson::ondemand::json_type::string:
        value.get_string().value();
        return;
      case simdjson::ondemand::json_type::number:
        value.get_double().value();
        return;
      case simdjson::ondemand::json_type::boolean:
        value.get_bool().value();
        return;
      case simdjson::ondemand::json_type::null:
        if (value.is_null()) return;
        break;
      default:
        break;
    }
    json_.fail_at(at_, "metadata: ", quote(key), ": accepted: a string, a number, true, false or null");
  }

  void read_weight_map(StrictJson::Value value) {
    if (!StrictJson::is_object(value)) json_.fail_at(at_, "weight_map: accepted: an object of file names");
    json_.each_field(value.get_object().value(), [&](std::string_view tensor, StrictJson::Value entry) {
      at_ = StrictJson::start(entry);
      if (tensor.size() > kMaxTensorNameBytes)
        json_.fail_at(at_, "tensor ", quote(tensor), ": name has ", tensor.size(), " bytes, accepted: at most ",
                      kMaxTensorNameBytes);
      if (!is_printable_name(tensor)) json_.fail_at(at_, "tensor ", quote(tensor), ": name has a control character");
      if (!StrictJson::is_string(entry)) json_.fail_at(at_, "tensor ", quote(tensor), ": accepted: a file name");
      if (index_.weight_map.size() == kMaxIndexedTensors)
        json_.fail_at(at_, "weight_map: accepted: at most ", kMaxIndexedTensors, " tensors");
      const std::string_view shard = entry.get_string().value();
      require_shard_name(tensor, shard);
      const auto [place, is_new] =
          shard_ids_.try_emplace(std::string(shard), static_cast<std::uint32_t>(shard_ids_.size()));
      index_.weight_map.emplace_back(tensor, place->second);
    });
  }

  void require_shard_name(std::string_view tensor, std::string_view shard) {
    const bool is_accepted =
        is_plain_file_name(shard) && shard.ends_with(kSafetensorsSuffix) && shard.size() > kSafetensorsSuffix.size();
    if (!is_accepted)
      json_.fail_at(at_, "tensor ", quote(tensor), ": found shard ", quote(shard),
                    ", accepted: the name of a .safetensors file in the model directory");
  }

  // Ids were given in order of appearance; the result counts them in order of their names.
  void number_shards_by_name() {
    std::vector<std::uint32_t> new_id(shard_ids_.size());
    for (const auto& [name, old_id] : shard_ids_) {
      new_id[old_id] = static_cast<std::uint32_t>(index_.shards.size());
      index_.shards.push_back(name);
    }
    for (auto& [tensor, shard] : index_.weight_map) shard = new_id[shard];
  }

  void require_distinct_tensors() const {
    std::vector<std::uint32_t> order(index_.weight_map.size());
    std::iota(order.begin(), order.end(), 0u);
    const auto name = [&](std::uint32_t i) -> const std::string& { return index_.weight_map[i].first; };
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return name(a) < name(b); });
    const auto twin = std::adjacent_find(order.begin(), order.end(),
                                         [&](std::uint32_t a, std::uint32_t b) { return name(a) == name(b); });
    if (twin != order.end())
      throw Error(Code::kBadFile, file_, ": weight_map: tensor ", quote(name(*twin)), ": duplicate key");
  }

  static constexpr std::size_t kMaxMetadataKeys = 256;

  const std::string& file_;
  StrictJson json_;
  ShardIndex index_;
  std::map<std::string, std::uint32_t> shard_ids_;
  const char* at_ = nullptr;  // start of the value in hand, for sentences
  bool has_weight_map_ = false;
  bool has_metadata_ = false;
};

}  // namespace

bool is_plain_file_name(std::string_view name) noexcept {
  return !name.empty() && name != "." && name != ".." && name.size() <= 255 && is_printable_name(name) &&
         name.find_first_of("/\\") == std::string_view::npos;
}

ShardIndex parse_shard_index(std::string json, const std::string& file) {
  return IndexReader(std::move(json), file).read();
}

}  // namespace megamoe
