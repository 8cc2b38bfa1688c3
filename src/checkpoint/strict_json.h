// JSON text from a file nobody vouches for, read front to back with simdjson On-Demand.
//
// simdjson checks UTF-8 and grammar; this adds what it leaves to its caller: lone surrogates, text after the value,
// integers in their one plain spelling, and the byte of a fault. On-Demand checks only what is visited, so a reader
// built on this visits every value or throws. It includes simdjson, so only .cc files include it.
#pragma once

#include <simdjson.h>

#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "checkpoint/quote.h"
#include "megamoe/error.h"

namespace megamoe {

class StrictJson {
 public:
  using Object = simdjson::ondemand::object;
  using Value = simdjson::ondemand::value;

  // `place` starts every sentence: "model.safetensors: header". `text` is best reserved with SIMDJSON_PADDING to spare.
  StrictJson(std::string text, std::string place) : text_(std::move(text)), place_(std::move(place)) {
    text_.reserve(text_.size() + simdjson::SIMDJSON_PADDING);
  }

  std::size_t size() const noexcept { return text_.size(); }

  // Hands the root object to read(Object) and checks that nothing follows it. simdjson's own complaints become Errors.
  template <class Read>
  void read_root(Read&& read) {
    try {
      require_paired_surrogates();
      document_ = parser_.iterate(simdjson::padded_string_view(text_.data(), text_.size(), text_.capacity()));
      is_started_ = true;
      read(document_.get_object().value());
      const char* rest = nullptr;
      if (document_.current_location().get(rest) == simdjson::SUCCESS)
        fail_at(rest, "found text after the object's end");
    } catch (const simdjson::simdjson_error& error) {
      fail_here(simdjson::error_message(error.error()));
    }
  }

  // Calls on_field(key, value) for each field in file order. Keys come unescaped and live as long as this object;
  // values must be consumed before on_field returns.
  template <class OnField>
  void each_field(Object object, OnField&& on_field) {
    for (auto field : object) {
      const std::string_view key = field.unescaped_key().value();
      on_field(key, field.value().value());
    }
  }

  // A number written as 0 or [1-9][0-9]*, below 2^64: not 8.0, 1e1, -0 or 01. `what` names it in the sentence.
  std::uint64_t plain_integer(Value value, std::string_view what) {
    const std::string_view token = number_token(value);
    std::uint64_t number = 0;
    const auto [end, status] = std::from_chars(token.data(), token.data() + token.size(), number);
    const bool plain =
        status == std::errc{} && end == token.data() + token.size() && (token[0] != '0' || token.size() == 1);
    if (!plain) fail_at(token.data(), what, ": found ", quote(token), ", accepted: a plain integer from 0 to 2^64 - 1");
    // Lets simdjson step over the token, and check what stands behind it.
    return value.get_uint64().value();
  }

  static const char* start(Value& value) { return value.raw_json_token().data(); }
  static bool is_object(Value& value) { return value.type().value() == simdjson::ondemand::json_type::object; }
  static bool is_array(Value& value) { return value.type().value() == simdjson::ondemand::json_type::array; }
  static bool is_string(Value& value) { return value.type().value() == simdjson::ondemand::json_type::string; }

  // The token of a scalar without the white space behind it.
  static std::string_view number_token(Value& value) {
    std::string_view token = value.raw_json_token();
    while (!token.empty() &&
           (token.back() == ' ' || token.back() == '\n' || token.back() == '\r' || token.back() == '\t'))
      token.remove_suffix(1);
    return token;
  }

  // Where the reader stands: for sentences about the value in hand.
  template <class... Parts>
  [[noreturn]] void fail_here(const Parts&... parts) {
    const char* here = nullptr;
    if (!is_started_)
      here = text_.data();  // refused before any value was looked at: not UTF-8, an open string, nothing at all
    else if (document_.current_location().get(here) != simdjson::SUCCESS)
      here = text_.data() + text_.size();
    fail_at(here, parts...);
  }

  template <class... Parts>
  [[noreturn]] void fail_at(const char* at, const Parts&... parts) const {
    throw Error(Code::kBadFile, place_, " byte ", at - text_.data(), ": ", parts...);
  }

 private:
  // simdjson turns \ud800 alone, or before something that is not a low surrogate, into bytes that are not UTF-8.
  void require_paired_surrogates() const {
    bool expect_low = false;
    const char* const end = text_.data() + text_.size();
    for (const char* at = text_.data(); at < end;) {
      if (*at != '\\') {
        if (expect_low) fail_at(at, "lone surrogate");
        const void* next = std::memchr(at, '\\', static_cast<std::size_t>(end - at));
        at = next == nullptr ? end : static_cast<const char*>(next);
        continue;
      }
      unsigned unit = 0;
      const bool is_unit = end - at >= 6 && at[1] == 'u' && std::from_chars(at + 2, at + 6, unit, 16).ptr == at + 6;
      const bool is_low = is_unit && unit >= 0xdc00 && unit < 0xe000;
      if (is_low != expect_low) fail_at(at, "lone surrogate");
      expect_low = is_unit && unit >= 0xd800 && unit < 0xdc00;
      at += is_unit ? 6 : 2;
    }
  }

  std::string text_;
  std::string place_;
  simdjson::ondemand::parser parser_;
  simdjson::ondemand::document document_;
  bool is_started_ = false;  // document_ has a text
};

}  // namespace megamoe
