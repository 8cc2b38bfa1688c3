#include "checkpoint/config.h"

#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace megamoe {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxDepth = 64;
constexpr std::int64_t kMaxCount = std::int64_t{1} << 40;

// simdjson turns a lone surrogate (\ud800) into bytes that are not UTF-8, which no JSON writer takes back.
std::string checked(std::string_view text, const std::string& file) {
  if (!simdjson::validate_utf8(text)) throw Error(Code::kBadFile, file, ": a string holds a lone surrogate");
  return std::string(text);
}

Json convert(simdjson::dom::element element, const std::string& file) {
  switch (element.type()) {
    case simdjson::dom::element_type::OBJECT: {
      Json object = Json::object();
      std::set<std::string, std::less<>> seen;  // ordered_json finds keys by walking: quadratic for hostile files
      auto& fields = object.get_ref<Json::object_t&>();
      for (const auto& field : simdjson::dom::object(element)) {
        if (!seen.emplace(field.key).second) throw Error(Code::kBadFile, file, ": key ", field.key, " is given twice");
        fields.push_back({checked(field.key, file), convert(field.value, file)});
      }
      return object;
    }
    case simdjson::dom::element_type::ARRAY: {
      Json array = Json::array();
      for (const simdjson::dom::element item : simdjson::dom::array(element)) array.push_back(convert(item, file));
      return array;
    }
    case simdjson::dom::element_type::INT64:
      return std::int64_t(element);
    case simdjson::dom::element_type::UINT64:
      return std::uint64_t(element);
    case simdjson::dom::element_type::DOUBLE:
      return double(element);
    case simdjson::dom::element_type::STRING:
      return checked(std::string_view(element), file);
    case simdjson::dom::element_type::BOOL:
      return bool(element);
    case simdjson::dom::element_type::NULL_VALUE:
      return nullptr;
  }
  throw Error(Code::kInternal, file, ": a JSON type unknown to the reader");
}

// A value as it may stand in a sentence.
std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 64) text = text.substr(0, 61) + "...";
  return text;
}

}  // namespace

Config Config::parse(std::string_view text, std::string file) {
  if (text.size() > kMaxConfigBytes)
    throw Error(Code::kBadFile, file, ": found ", text.size(), " bytes, accepted: at most ", kMaxConfigBytes);
  try {
    simdjson::dom::parser parser;
    const simdjson::error_code allocated = parser.allocate(text.size() + 1, kMaxDepth);
    if (allocated) throw simdjson::simdjson_error(allocated);
    const simdjson::padded_string padded(text);
    const simdjson::dom::element root = parser.parse(padded);
    if (!root.is_object()) throw Error(Code::kBadFile, file, ": accepted: one JSON object");
    return Config(std::make_shared<const Json>(convert(root, file)), file);
  } catch (const simdjson::simdjson_error& error) {
    throw Error(Code::kBadFile, file, ": not valid JSON: ", error.what());
  }
}

ConfigReader::ConfigReader(const Config& config, Findings& findings)
    : ConfigReader(config.json(), config.file(), "", findings) {}

ConfigReader::ConfigReader(const Json& node, std::string file, std::string where, Findings& findings)
    : node_(&node), file_(std::move(file)), where_(std::move(where)), findings_(&findings) {}

const Json* ConfigReader::find(std::string_view key) {
  asked_.emplace(key);
  for (const auto& [name, value] : node_->get_ref<const Json::object_t&>())
    if (name == key) return value.is_null() ? nullptr : &value;
  return nullptr;
}

const Json* ConfigReader::require(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) fail(0, key, ": missing");
  return value;
}

bool ConfigReader::has(std::string_view key) const {
  for (const auto& [name, value] : node_->get_ref<const Json::object_t&>())
    if (name == key) return !value.is_null();
  return false;
}

std::vector<std::string> ConfigReader::keys() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : node_->get_ref<const Json::object_t&>()) names.push_back(name);
  return names;
}

std::int64_t ConfigReader::integer(const Json& value, std::string_view key, std::int64_t least) {
  if (value.is_number_integer()) {
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > std::uint64_t{kMaxCount};
    if (!huge && value.get<std::int64_t>() >= least && value.get<std::int64_t>() <= kMaxCount)
      return value.get<std::int64_t>();
  }
  fail(0, key, ": found ", shown(value), ", accepted: an integer from ", least, " to ", kMaxCount);
  return least;
}

std::int64_t ConfigReader::size(std::string_view key) {
  const Json* value = require(key);
  return value == nullptr ? 1 : integer(*value, key, 1);
}

std::int64_t ConfigReader::count(std::string_view key) {
  const Json* value = require(key);
  return value == nullptr ? 0 : integer(*value, key, 0);
}

std::int64_t ConfigReader::count_or(std::string_view key, std::int64_t fallback) {
  const Json* value = find(key);
  return value == nullptr ? fallback : integer(*value, key, 0);
}

float ConfigReader::positive_number(std::string_view key) {
  const Json* value = require(key);
  if (value == nullptr) return 1.0f;
  if (value->is_number()) {
    const auto number = static_cast<float>(value->get<double>());
    if (std::isnormal(number) && number > 0.0f) return number;
  }
  fail(0, key, ": found ", shown(*value), ", accepted: a finite number above 0");
  return 1.0f;
}

bool ConfigReader::flag(std::string_view key) { return require(key) == nullptr ? false : flag_or(key, false); }

bool ConfigReader::flag_or(std::string_view key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  fail(0, key, ": found ", shown(*value), ", accepted: true or false");
  return fallback;
}

std::string ConfigReader::text(std::string_view key) {
  return require(key) == nullptr ? std::string() : text_or(key, "");
}

std::string ConfigReader::text_or(std::string_view key, std::string_view fallback) {
  const Json* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (value->is_string()) return value->get<std::string>();
  fail(0, key, ": found ", shown(*value), ", accepted: a string");
  return std::string(fallback);
}

std::vector<std::int64_t> ConfigReader::counts_or_empty(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return {};
  std::vector<std::int64_t> counts;
  if (!value->is_array()) fail(0, key, ": found ", shown(*value), ", accepted: a list of integers");
  if (value->is_array())
    for (const Json& item : *value) counts.push_back(integer(item, key, 0));
  return counts;
}

std::vector<std::string> ConfigReader::texts_or_empty(std::string_view key) {
  const Json* value = find(key);
  std::vector<std::string> texts;
  if (value == nullptr) return texts;
  bool sound = value->is_array();
  if (sound)
    for (const Json& item : *value) {
      sound = sound && item.is_string();
      if (item.is_string()) texts.push_back(item.get<std::string>());
    }
  if (!sound) fail(0, key, ": found ", shown(*value), ", accepted: a list of strings");
  return texts;
}

bool ConfigReader::is_object(std::string_view key) const {
  for (const auto& [name, value] : node_->get_ref<const Json::object_t&>())
    if (name == key) return value.is_object();
  return false;
}

bool ConfigReader::is_true(std::string_view key) {
  const Json* value = find(key);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

std::optional<ConfigReader> ConfigReader::object(std::string_view key) {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_object()) return ConfigReader(*value, file_, where_ + std::string(key) + ".", *findings_);
  fail(0, key, ": found ", shown(*value), ", accepted: an object");
  return std::nullopt;
}

std::int64_t ConfigReader::size_of_any(std::initializer_list<std::string_view> names) {
  std::int64_t found = 0;
  std::string_view found_name;
  std::string accepted;
  for (const std::string_view name : names) {
    accepted += (accepted.empty() ? "" : " or ") + std::string(name);
    if (find(name) == nullptr) continue;
    const std::int64_t value = size(name);
    if (found != 0 && value != found)
      fail(10, name, " is ", value, " but ", found_name, " is ", found, ", accepted: one number");
    found = value;
    found_name = name;
  }
  if (found == 0) fail(0, accepted, ": missing");
  return std::max<std::int64_t>(found, 1);
}

std::string ConfigReader::one_of(std::string_view key, std::optional<std::string_view> fallback,
                                 std::initializer_list<std::string_view> accepted) {
  const std::string value = fallback ? text_or(key, *fallback) : text(key);
  std::string list;
  for (const std::string_view choice : accepted) {
    if (choice == value) return value;
    list += (list.empty() ? "" : ", ") + std::string(choice);
  }
  if (has(key)) fail_unsupported(0, key, ": found ", shown(Json(value)), ", accepted: ", list);
  return std::string(*accepted.begin());
}

}  // namespace megamoe
