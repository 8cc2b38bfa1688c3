#include "checkpoint/config.h"

#include <gtest/gtest.h>

#include "checkpoint/files/file_fixtures.h"

namespace megamoe::test {
namespace {

TEST(config, refuses_what_is_not_one_strict_json_object) {
  for (const char* text : {"", "[]", "1", "{", "{}x", "{\"a\": NaN}", "{\"a\": Infinity}", "{\"a\": 01}", "{'a': 1}",
                           "{\"a\": 1,}", "\xff", "{\"a\": \"\xff\"}"})
    EXPECT_NE(sentence_of([&] { Config::parse(text, "config.json"); }), "") << text;
  EXPECT_EQ(sentence_of([] { Config::parse("{\"a\": 1}", "config.json"); }), "");
}

TEST(config, refuses_duplicate_keys_however_spelled) {
  EXPECT_NE(sentence_of([] { Config::parse(R"({"a": 1, "a": 1})", "c"); }).find("key a is given twice"),
            std::string::npos);
  EXPECT_NE(sentence_of([] { Config::parse(R"({"a": 1, "\u0061": 1})", "c"); }), "");
  EXPECT_NE(sentence_of([] { Config::parse(R"({"b": {"a": 1, "a": 2}})", "c"); }), "");
}

TEST(config, refuses_lone_surrogates) {
  EXPECT_NE(sentence_of([] { Config::parse(R"({"a": "\ud800"})", "c"); }), "");
  EXPECT_NE(sentence_of([] { Config::parse(R"({"\udc00": 1})", "c"); }), "");
  EXPECT_EQ(sentence_of([] { Config::parse(R"({"a": "\ud83d\ude00"})", "c"); }), "");
}

TEST(config, refuses_depth_that_would_cost_stack) {
  const std::string deep = "{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}";
  EXPECT_NE(sentence_of([&] { Config::parse(deep, "c"); }), "");
}

// What a getter says about a value: the finding's sentence, or nothing.
template <class Get>
std::string complaint(const char* json, Get&& get) {
  Findings findings;
  const Config config = Config::parse(json, "config.json");
  ConfigReader reader(config, findings);
  get(reader);
  EXPECT_EQ(reader.faults(), static_cast<int>(findings.size()));
  return findings.empty() ? "" : findings.list()[0].to_string();
}

TEST(config, sizes_are_integers_above_zero) {
  const auto size = [](ConfigReader& reader) { reader.size("a"); };
  EXPECT_EQ(complaint(R"({"a": 1})", size), "");
  EXPECT_EQ(complaint(R"({"a": 0})", size), "config.json: a: found 0, accepted: an integer from 1 to 1099511627776");
  for (const char* json : {R"({"a": -1})", R"({"a": 1.0})", R"({"a": "1"})", R"({"a": true})", R"({"a": [1]})",
                           R"({"a": 18446744073709551615})", R"({"a": 1e30})"})
    EXPECT_NE(complaint(json, size), "") << json;
  EXPECT_EQ(complaint("{}", size), "config.json: a: missing");
  EXPECT_EQ(complaint(R"({"a": null})", size), "config.json: a: missing");
}

TEST(config, numbers_flags_and_lists_have_their_types) {
  const auto number = [](ConfigReader& reader) { reader.positive_number("a"); };
  EXPECT_EQ(complaint(R"({"a": 2.5})", number), "");
  for (const char* json : {R"({"a": 0})", R"({"a": -1.5})", R"({"a": 1e300})", R"({"a": 1e-300})", R"({"a": "x"})"})
    EXPECT_NE(complaint(json, number), "") << json;
  EXPECT_NE(complaint(R"({"a": 1})", [](ConfigReader& r) { r.flag("a"); }), "");
  EXPECT_NE(complaint(R"({"a": [1, -1]})", [](ConfigReader& r) { r.counts_or_empty("a"); }), "");
  EXPECT_NE(complaint(R"({"a": ["x", 1]})", [](ConfigReader& r) { r.texts_or_empty("a"); }), "");
  EXPECT_NE(complaint(R"({"a": [1]})", [](ConfigReader& r) { r.object("a"); }), "");
}

TEST(config, two_names_of_one_size_must_agree) {
  const auto size = [](ConfigReader& reader) { reader.size_of_any({"a", "b"}); };
  EXPECT_EQ(complaint(R"({"b": 4})", size), "");
  EXPECT_EQ(complaint(R"({"a": 4, "b": 4})", size), "");
  EXPECT_EQ(complaint(R"({"a": 4, "b": 5})", size), "config.json: b is 5 but a is 4, accepted: one number");
  EXPECT_EQ(complaint("{}", size), "config.json: a or b: missing");
}

}  // namespace
}  // namespace megamoe::test
