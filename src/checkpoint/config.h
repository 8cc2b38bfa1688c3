// A JSON config of a checkpoint, read strictly: simdjson parses it (no NaN literals, valid UTF-8), duplicate keys are
// refused, and every value is asked for by name, type and range.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/findings.h"

namespace megamoe {

inline constexpr std::uint64_t kMaxConfigBytes = 64 << 20;  // exclude lists of large models reach megabytes

// One parsed file. Cheap to copy.
class Config {
 public:
  // Throws kBadFile for text that is not one JSON object. `file` is the name used in sentences.
  static Config parse(std::string_view text, std::string file);

  const std::string& file() const noexcept { return file_; }
  const nlohmann::ordered_json& json() const noexcept { return *json_; }

 private:
  Config(std::shared_ptr<const nlohmann::ordered_json> json, std::string file)
      : json_(std::move(json)), file_(std::move(file)) {}
  std::shared_ptr<const nlohmann::ordered_json> json_;
  std::string file_;
};

// Reads one object of a config. A value that is missing, of another type or out of range becomes a finding and the
// getter returns a harmless value, so that reading goes on and all faults are found. null counts as missing. It
// remembers the keys that it was asked for, so that keys nobody understood can be refused.
class ConfigReader {
 public:
  ConfigReader(const Config& config, Findings& findings);

  bool has(std::string_view key) const;
  std::vector<std::string> keys() const;
  const std::set<std::string, std::less<>>& asked() const noexcept { return asked_; }
  void ignore(std::string_view key) { asked_.emplace(key); }
  // Values that were missing or out of range so far; what was returned for them means nothing.
  int faults() const noexcept { return faults_; }

  std::int64_t size(std::string_view key);   // required, 1 .. 2^40
  std::int64_t count(std::string_view key);  // required, 0 .. 2^40
  std::int64_t count_or(std::string_view key, std::int64_t fallback);
  float positive_number(std::string_view key);  // required, finite, > 0
  bool flag(std::string_view key);              // required
  bool flag_or(std::string_view key, bool fallback);
  std::string text(std::string_view key);  // required; "" where missing
  std::string text_or(std::string_view key, std::string_view fallback);
  std::vector<std::int64_t> counts_or_empty(std::string_view key);  // array of integers >= 0
  std::vector<std::string> texts_or_empty(std::string_view key);    // array of strings
  std::optional<ConfigReader> object(std::string_view key);         // nullopt where missing
  bool is_object(std::string_view key) const;
  bool is_true(std::string_view key);  // false for whatever is not the literal true

  // A size that has had several names; where more than one is given they must be equal.
  std::int64_t size_of_any(std::initializer_list<std::string_view> names);
  // A text that must be one of a few, with the value of a missing key where it has one.
  std::string one_of(std::string_view key, std::optional<std::string_view> fallback,
                     std::initializer_list<std::string_view> accepted);

  template <class... Parts>
  void fail(int pitfall, const Parts&... parts) {
    ++faults_;
    findings_->add(pitfall, "", file_, where_, parts...);
  }
  template <class... Parts>
  void fail_unsupported(int pitfall, const Parts&... parts) {
    findings_->add_unsupported(pitfall, "", file_, where_, parts...);
  }

 private:
  ConfigReader(const nlohmann::ordered_json& node, std::string file, std::string where, Findings& findings);
  const nlohmann::ordered_json* find(std::string_view key);
  const nlohmann::ordered_json* require(std::string_view key);
  std::int64_t integer(const nlohmann::ordered_json& value, std::string_view key, std::int64_t least);

  const nlohmann::ordered_json* node_;
  std::string file_;
  std::string where_;  // in front of a key: "" or "text_config."
  Findings* findings_;
  std::set<std::string, std::less<>> asked_;
  int faults_ = 0;
};

}  // namespace megamoe
