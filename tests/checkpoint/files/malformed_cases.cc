#include "checkpoint/files/malformed_cases.h"

#include "checkpoint/files/file_fixtures.h"

namespace megamoe::test {
namespace {

using namespace std::string_literals;

// A header of one tensor 'a' with these values of its fields, and four bytes of data.
MalformedCase one_tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                         const std::string& offsets, const std::string& expected) {
  return {name,
          safetensors_bytes(
              R"({"a":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}", 4),
          expected};
}

// The same, with the tensor's fields as raw text.
MalformedCase raw_fields(const std::string& name, const std::string& fields, const std::string& expected) {
  return {name, safetensors_bytes(R"({"a":{)" + fields + "}}", 4), expected};
}

MalformedCase raw_header(const std::string& name, const std::string& header, const std::string& expected,
                         std::size_t data_bytes = 0) {
  return {name, safetensors_bytes(header, data_bytes), expected};
}

std::string u8_tensor(const std::string& name, std::uint64_t begin, std::uint64_t end) {
  return '"' + name + R"(":{"dtype":"U8","shape":[)" + std::to_string(end - begin) + R"(],"data_offsets":[)" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

std::string repeat(const std::string& text, std::size_t times) {
  std::string out;
  for (std::size_t i = 0; i < times; ++i) out += text;
  return out;
}

const std::string kGood = R"("dtype":"U8","shape":[4],"data_offsets":[0,4])";

void add_lengths(std::vector<MalformedCase>& cases) {
  cases.push_back({"empty file", "", "found 0 bytes"});
  cases.push_back({"seven bytes", std::string(7, '\0'), "found 7 bytes"});
  cases.push_back({"length 0", length_bytes(0), "header length: found 0"});
  cases.push_back({"length 0 with data", length_bytes(0) + "{}", "header length: found 0"});
  cases.push_back({"length behind the file", length_bytes(3) + "{}", "header length: found 3"});
  cases.push_back({"length far behind the file", length_bytes(99'999'999) + "{}", "the file has 2 bytes behind it"});
  cases.push_back({"length 10^8 + 1", length_bytes(100'000'001) + "{}", "accepted: at most 100000000"});
  cases.push_back({"length 2^63", length_bytes(std::uint64_t{1} << 63) + "{}", "accepted: at most 100000000"});
  cases.push_back({"length 2^64 - 1", length_bytes(~std::uint64_t{0}) + "{}", "accepted: at most 100000000"});
  cases.push_back(
      {"length 2^64 - 8, wraps to the file's size", length_bytes(~std::uint64_t{0} - 7) + "{}", "accepted: at most"});
  cases.push_back({"big-endian length", "\0\0\0\0\0\0\0\2{}"s, "accepted: at most 100000000"});
  cases.push_back({"length only", length_bytes(2), "header length: found 2"});
  cases.push_back({"a zip file", "PK\3\4\24\0\0\0\10\0\0\0\0\0"s, "header length"});
  cases.push_back({"a pickle", "\x80\2}q\1(X\1\0\0\0aq\2K\1u."s, "header length"});
  cases.push_back({"git-lfs pointer", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "header length"});
}

void add_header_starts(std::vector<MalformedCase>& cases) {
  cases.push_back(raw_header("only spaces", "        ", "header byte 0: found only spaces"));
  cases.push_back(raw_header("leading tab", "\t{}", "header byte 0: found '\\x09'"));
  cases.push_back(raw_header("leading newline", "\n{}", "header byte 0: found '\\x0a'"));
  cases.push_back(raw_header("spaces, then newline", "  \n{}", "header byte 2: found '\\x0a'"));
  cases.push_back(raw_header("byte order mark", "\xef\xbb\xbf{}", "header byte 0: found '\\xef'"));
  cases.push_back(raw_header("array", "[]", "header byte 0: found '['"));
  cases.push_back(raw_header("string", R"("a")", "header byte 0: found '\"'"));
  cases.push_back(raw_header("null", "null", "header byte 0: found 'n'"));
  cases.push_back(raw_header("number", "12", "header byte 0: found '1'"));
  cases.push_back(raw_header("NUL", "\0{}"s, "header byte 0: found '\\x00'"));
  cases.push_back(raw_header("UTF-16", "{\0}\0"s, "header"));
}

void add_grammar(std::vector<MalformedCase>& cases) {
  cases.push_back(raw_header("open brace only", "{", "header"));
  cases.push_back(raw_header("two braces open", "{{", "header"));
  cases.push_back(raw_header("garbage behind", "{}x", "header"));
  cases.push_back(raw_header("second object", "{} {}", "header"));
  cases.push_back(raw_header("brace behind", "{}}", "header byte 2: found text after"));
  cases.push_back(raw_header("comma behind", "{},", "header"));
  cases.push_back(raw_header("NUL padding", "{}\0\0\0\0\0\0"s, "header"));
  cases.push_back(raw_header("trailing comma", "{" + u8_tensor("a", 0, 4) + ",}", "header", 4));
  cases.push_back(raw_header("leading comma", "{," + u8_tensor("a", 0, 4) + "}", "header", 4));
  cases.push_back(raw_header("missing comma", "{" + u8_tensor("a", 0, 4) + u8_tensor("b", 4, 4) + "}", "header", 4));
  cases.push_back(raw_header("missing colon", R"({"a" {"dtype":"U8"}})", "header"));
  cases.push_back(raw_header("comment", "{/* */}", "header"));
  cases.push_back(raw_header("single quotes", "{'a':{}}", "header"));
  cases.push_back(raw_header("bare key", "{a:{}}", "header"));
  cases.push_back(raw_header("key null", "{null:{}}", "header"));
  cases.push_back(raw_header("unclosed string", R"({"a)", "header"));
  cases.push_back(raw_header("cut in the middle", R"({"a":{"dtype":"U8","sha)", "header"));
  cases.push_back(
      raw_header("mismatched brackets", R"({"a":{"dtype":"U8","shape":[4},"data_offsets":[0,4]]})", "header", 4));
  cases.push_back(raw_header("not UTF-8", "{\"\xff\":{}}", "header"));
  cases.push_back(raw_header("overlong UTF-8", "{\"\xc0\xaf\":{}}", "header"));
  cases.push_back(raw_header("surrogate in UTF-8", "{\"\xed\xa0\x80\":{}}", "header"));
  cases.push_back(raw_header("cut UTF-8", "{\"\xe2\x82\":{}}", "header"));
  cases.push_back(raw_header("control character in a string", "{\"a\x01\":{}}", "header"));
  cases.push_back(raw_header("newline in a string", "{\"a\n\":{}}", "header"));
  cases.push_back(raw_header("unknown escape", R"({"\q":{}})", "header"));
  cases.push_back(raw_header("short unicode escape", R"({"\u00":{}})", "header"));
  cases.push_back(raw_header("lone high surrogate", R"({"\ud800":{}})", "lone surrogate"));
  cases.push_back(raw_header("lone low surrogate", R"({"\udc00":{}})", "lone surrogate"));
  cases.push_back(raw_header("high surrogate before a letter", R"({"\ud800\u0041":{}})", "lone surrogate"));
  cases.push_back(raw_header("two high surrogates", R"({"\ud800\ud800":{}})", "lone surrogate"));
  cases.push_back(raw_header("surrogates swapped", R"({"\udc00\ud800":{}})", "lone surrogate"));
  cases.push_back(raw_header("lone surrogate in metadata", R"({"__metadata__":{"a":"\udbff"}})", "lone surrogate"));
}

void add_names(std::vector<MalformedCase>& cases) {
  const auto named = [&](const std::string& what, const std::string& json_name, const std::string& expected) {
    cases.push_back(raw_header(what, "{" + u8_tensor(json_name, 0, 4) + "}", expected, 4));
  };
  named("NUL in a name", R"(a\u0000b)", "tensor 'a\\x00b': name has a control character");
  named("newline in a name", R"(a\nb)", "tensor 'a\\x0ab': name has a control character");
  named("escape character in a name", R"(\u001b[31m)", "tensor '\\x1b[31m': name has a control character");
  named("DEL in a name", "a\x7f", "tensor 'a\\x7f': name has a control character");
  named("C1 control in a name", R"(\u0085)", "name has a control character");
  named("name of 4097 bytes", std::string(4097, 'n'), "name has 4097 bytes, accepted: at most 4096");
  named("name of 10 MB", std::string(10'000'000, 'n'), "name has 10000000 bytes");
}

void add_duplicates(std::vector<MalformedCase>& cases) {
  const std::string a = u8_tensor("a", 0, 4);
  cases.push_back(raw_header("duplicate tensor", "{" + a + "," + a + "}", "tensor 'a': duplicate key", 4));
  cases.push_back(raw_header("duplicate tensor, other place", "{" + a + "," + u8_tensor("a", 4, 8) + "}",
                             "tensor 'a': duplicate key", 8));
  cases.push_back(raw_header("duplicate tensor, other dtype",
                             "{" + a + R"(,"a":{"dtype":"I8","shape":[4],"data_offsets":[0,4]}})",
                             "tensor 'a': duplicate key", 4));
  cases.push_back(raw_header("duplicate by escape", "{" + a + "," + u8_tensor("\\u0061", 4, 8) + "}",
                             "tensor 'a': duplicate key", 8));
  cases.push_back(raw_header("duplicate far apart",
                             "{" + a + "," + u8_tensor("b", 4, 8) + "," + u8_tensor("a", 8, 12) + "}",
                             "tensor 'a': duplicate key", 12));
  cases.push_back(raw_header("duplicate empty tensors", "{" + u8_tensor("a", 0, 0) + "," + u8_tensor("a", 0, 0) + "}",
                             "tensor 'a': duplicate key"));
  cases.push_back(raw_fields("duplicate dtype", R"("dtype":"U8",)" + kGood, "duplicate key 'dtype'"));
  cases.push_back(raw_fields("duplicate shape", kGood + R"(,"shape":[4])", "duplicate key 'shape'"));
  cases.push_back(
      raw_fields("duplicate data_offsets", kGood + R"(,"data_offsets":[0,4])", "duplicate key 'data_offsets'"));
  cases.push_back(raw_fields("duplicate dtype by escape", kGood + R"(,"\u0064type":"U8")", "duplicate key 'dtype'"));
  cases.push_back(
      raw_header("duplicate __metadata__", R"({"__metadata__":{},"__metadata__":{}})", "__metadata__: duplicate key"));
  cases.push_back(
      raw_header("duplicate key in __metadata__", R"({"__metadata__":{"k":"1","k":"2"}})", "duplicate key 'k'"));
  cases.push_back(raw_header("duplicate key in __metadata__ by escape", R"({"__metadata__":{"k":"1","\u006b":"2"}})",
                             "duplicate key 'k'"));
}

void add_metadata(std::vector<MalformedCase>& cases) {
  for (const char* value : {"null", "[]", "\"pt\"", "1", "true"})
    cases.push_back(raw_header("__metadata__ is "s + value, R"({"__metadata__":)"s + value + "}",
                               "__metadata__: accepted: an object of strings"));
  for (const char* value : {"null", "1", "true", "{}", "[]", "[\"a\"]"})
    cases.push_back(raw_header("metadata value "s + value, R"({"__metadata__":{"k":)"s + value + "}}",
                               "__metadata__: 'k': accepted: a string"));
  std::string many = R"({"__metadata__":{)";
  for (int i = 0; i < 65'537; ++i) many += (i ? ",\"" : "\"") + std::to_string(i) + "\":\"\"";
  cases.push_back(raw_header("65537 metadata entries", many + "}}", "accepted: at most 65536 entries"));
}

void add_fields(std::vector<MalformedCase>& cases) {
  for (const char* value : {"null", "1", "\"x\"", "true", "[]", R"(["U8",[4],[0,4]])"})
    cases.push_back(raw_header("tensor is "s + value, R"({"a":)"s + value + "}", "tensor 'a': accepted: an object", 4));
  cases.push_back(raw_fields("no fields", "", "missing field dtype"));
  cases.push_back(raw_fields("no dtype", R"("shape":[4],"data_offsets":[0,4])", "missing field dtype"));
  cases.push_back(raw_fields("no shape", R"("dtype":"U8","data_offsets":[0,4])", "missing field shape"));
  cases.push_back(raw_fields("no data_offsets", R"("dtype":"U8","shape":[4])", "missing field data_offsets"));
  cases.push_back(raw_fields("unknown field", kGood + R"(,"strides":[1])", "found field 'strides'"));
  cases.push_back(raw_fields("field in capitals", kGood + R"(,"DType":"U8")", "found field 'DType'"));
  cases.push_back(raw_fields("empty field name", kGood + R"(,"":1)", "found field ''"));
  cases.push_back(
      raw_fields("deep nesting", kGood + R"(,"x":)" + repeat("[", 127) + repeat("]", 127), "found field 'x'"));
  cases.push_back(
      raw_fields("very deep nesting", kGood + R"(,"x":)" + repeat("[", 1'000'000) + repeat("]", 1'000'000), "header"));
  cases.push_back(one_tensor("nested shape", R"("U8")", "[[4]]", "[0,4]", "shape"));
  cases.push_back(raw_header("only nesting", repeat(R"({"a":)", 10'000) + "1" + repeat("}", 10'000), "header"));
}

void add_dtypes(std::vector<MalformedCase>& cases) {
  for (const char* dtype :
       {"\"f32\"", "\"F99\"", "\"\"", "\"F8\"", "\" U8\"", "\"U8\\u0000\"", "\"FLOAT32\"", "\"NVFP4\""})
    cases.push_back(one_tensor("dtype "s + dtype, dtype, "[4]", "[0,4]", "tensor 'a': dtype: found '"));
  for (const char* dtype : {"null", "8", "[\"U8\"]", "{}"})
    cases.push_back(one_tensor("dtype "s + dtype, dtype, "[4]", "[0,4]", "tensor 'a': dtype: accepted: a string"));
}

void add_integers(std::vector<MalformedCase>& cases) {
  const std::vector<std::string> bad = {"4.0",   "4e0",
                                        "4E0",   "0.4e1",
                                        "-4",    "-0",
                                        "\"4\"", "null",
                                        "true",  "99999999999999999999",
                                        "1e99",  "[4]",
                                        "{}",    "18446744073709551616"};
  for (const std::string& number : bad) {
    cases.push_back(
        one_tensor("dimension " + number, R"("U8")", "[" + number + "]", "[0,4]", "tensor 'a': shape: found"));
    cases.push_back(
        one_tensor("offset " + number, R"("U8")", "[4]", "[0," + number + "]", "tensor 'a': data_offsets: found"));
  }
  // Not JSON at all: refused by the parser or by the spelling, whichever is asked first.
  const std::vector<std::string> not_json = {"+4",       "04",  "4.", ".4",   "0x4", "4_0",  "NaN",
                                             "Infinity", "4 4", "4a", "4\0"s, "4/",  "4\"\""};
  for (const std::string& number : not_json)
    cases.push_back(
        one_tensor("dimension, not JSON: " + number, R"("U8")", "[" + number + "]", "[0,4]", "header byte"));
}

void add_shapes(std::vector<MalformedCase>& cases) {
  cases.push_back(one_tensor("shape null", R"("U8")", "null", "[0,4]", "tensor 'a': shape: accepted: an array"));
  cases.push_back(one_tensor("shape a number", R"("U8")", "4", "[0,4]", "tensor 'a': shape: accepted: an array"));
  cases.push_back(one_tensor("shape an object", R"("U8")", "{}", "[0,4]", "tensor 'a': shape: accepted: an array"));
  cases.push_back(one_tensor("rank 9", R"("U8")", "[4,1,1,1,1,1,1,1,1]", "[0,4]", "at most 8 dimensions"));
  cases.push_back(
      one_tensor("rank 100000", R"("U8")", "[1" + repeat(",1", 99'999) + "]", "[0,4]", "at most 8 dimensions"));
  cases.push_back(one_tensor("dimension 2^48 + 1", R"("U8")", "[281474976710657]", "[0,4]", "at most 2^48"));
  cases.push_back(one_tensor("dimension 2^63", R"("U8")", "[9223372036854775808]", "[0,4]", "at most 2^48"));
  cases.push_back(one_tensor("dimension 2^64 - 1", R"("U8")", "[18446744073709551615]", "[0,4]", "at most 2^48"));
  cases.push_back(one_tensor("2^32 x 2^32", R"("U8")", "[4294967296,4294967296]", "[0,4]", "overflows 2^63 bits"));
  cases.push_back(
      one_tensor("2^32 x 2^32 x 0", R"("U8")", "[4294967296,4294967296,0]", "[0,0]", "overflows 2^63 bits"));
  cases.push_back(
      one_tensor("0 x 2^32 x 2^32", R"("U8")", "[0,4294967296,4294967296]", "[0,0]", "overflows 2^63 bits"));
  cases.push_back(
      one_tensor("2^48 x 2^16, wraps to 0", R"("U8")", "[281474976710656,65536]", "[0,0]", "overflows 2^63 bits"));
  cases.push_back(one_tensor("2^48 x 2^9 of F64, bits overflow", R"("F64")", "[281474976710656,512]", "[0,4]",
                             "overflows 2^63 bits"));
  cases.push_back(one_tensor("odd F4 count", R"("F4")", "[7]", "[0,4]", "has 28 bits, accepted: whole bytes"));
  cases.push_back(one_tensor("scalar F4", R"("F4")", "[]", "[0,1]", "has 4 bits, accepted: whole bytes"));
  cases.push_back(one_tensor("F6 count 6", R"("F6_E2M3")", "[6]", "[0,4]", "has 36 bits, accepted: whole bytes"));
  cases.push_back(
      one_tensor("shape smaller than data", R"("U8")", "[3]", "[0,4]", "needs 3 bytes, data_offsets give 4"));
  cases.push_back(
      one_tensor("shape larger than data", R"("U8")", "[5]", "[0,4]", "needs 5 bytes, data_offsets give 4"));
  cases.push_back(
      one_tensor("dtype wider than data", R"("F64")", "[4]", "[0,4]", "needs 32 bytes, data_offsets give 4"));
  cases.push_back(
      one_tensor("scalar over four bytes of U8", R"("U8")", "[]", "[0,4]", "needs 1 bytes, data_offsets give 4"));
  cases.push_back(
      one_tensor("empty shape, data there", R"("U8")", "[0]", "[0,4]", "needs 0 bytes, data_offsets give 4"));
}

void add_offsets(std::vector<MalformedCase>& cases) {
  cases.push_back(one_tensor("offsets null", R"("U8")", "[4]", "null", "data_offsets: accepted: an array"));
  cases.push_back(one_tensor("offsets an object", R"("U8")", "[4]", "{}", "data_offsets: accepted: an array"));
  cases.push_back(one_tensor("no offset", R"("U8")", "[4]", "[]", "data_offsets: found 0 integers"));
  cases.push_back(one_tensor("one offset", R"("U8")", "[4]", "[4]", "data_offsets: found 1 integers"));
  cases.push_back(one_tensor("three offsets", R"("U8")", "[4]", "[0,4,4]", "data_offsets: accepted: two integers"));
  cases.push_back(one_tensor("begin behind end", R"("U8")", "[4]", "[4,0]", "begin 4 is behind end 0"));
  cases.push_back(one_tensor("end behind the data", R"("U8")", "[5]", "[0,5]", "end 5 is behind the 4 bytes of data"));
  cases.push_back(
      one_tensor("end 2^64 - 1", R"("U8")", "[4]", "[0,18446744073709551615]", "is behind the 4 bytes of data"));
  cases.push_back(one_tensor("hole at the start", R"("U8")", "[3]", "[1,4]", "begins at 1, accepted: 0"));
  cases.push_back(one_tensor("trailing bytes", R"("U8")", "[3]", "[0,3]", "end at byte 3 of the data, the file has 4"));
  const std::string a = "{" + u8_tensor("a", 0, 4) + ",";
  cases.push_back(
      raw_header("hole", a + u8_tensor("b", 5, 8) + "}", "tensor 'b': data_offsets: begins at 5, accepted: 4", 8));
  cases.push_back(raw_header("overlap", a + u8_tensor("b", 3, 8) + "}", "(overlap)", 8));
  cases.push_back(raw_header("same place twice", a + u8_tensor("b", 0, 4) + "}", "(overlap)", 4));
  cases.push_back(raw_header("one inside the other", a + u8_tensor("b", 1, 3) + "}", "(overlap)", 4));
  cases.push_back(raw_header("empty tensor inside another", a + u8_tensor("b", 2, 2) + "}", "(overlap)", 4));
  cases.push_back(
      raw_header("truncated data", a + u8_tensor("b", 4, 8) + "}", "tensor 'b': data_offsets: end 8 is behind", 7));
  cases.push_back(raw_header("one byte too many", a + u8_tensor("b", 4, 8) + "}", "the file has 9 bytes of data", 9));
  cases.push_back(raw_header("data without tensors", "{}", "the file has 1 bytes of data", 1));
  std::string huge = "{";
  for (int i = 0; i < 8; ++i) {
    const std::uint64_t bytes = (std::uint64_t{1} << 61) - 1;
    huge += (i ? "," : "") +
            u8_tensor("t" + std::to_string(i), bytes * static_cast<unsigned>(i), bytes * static_cast<unsigned>(i + 1));
  }
  cases.push_back(raw_header("8 tensors of 2^61 - 1 bytes", huge + "}", "tensor 't0'"));
}

std::string index_of(const std::string& weight_map) {
  return R"({"metadata":{"total_size":4},"weight_map":)" + weight_map + "}";
}

}  // namespace

std::vector<MalformedCase> malformed_safetensors() {
  std::vector<MalformedCase> cases;
  add_lengths(cases);
  add_header_starts(cases);
  add_grammar(cases);
  add_names(cases);
  add_duplicates(cases);
  add_metadata(cases);
  add_fields(cases);
  add_dtypes(cases);
  add_integers(cases);
  add_shapes(cases);
  add_offsets(cases);
  return cases;
}

std::vector<MalformedCase> malformed_shard_indexes() {
  std::vector<MalformedCase> cases = {
      {"empty", "", "byte 0"},
      {"spaces", "   ", "byte"},
      {"array", "[]", "byte"},
      {"no weight_map", R"({"metadata":{"total_size":4}})", "missing key 'weight_map'"},
      {"weight_map null", index_of("null"), "weight_map: accepted: an object"},
      {"weight_map an array", index_of("[]"), "weight_map: accepted: an object"},
      {"shard a number", index_of(R"({"a":1})"), "tensor 'a': accepted: a file name"},
      {"shard null", index_of(R"({"a":null})"), "tensor 'a': accepted: a file name"},
      {"shard a list", index_of(R"({"a":["m.safetensors"]})"), "tensor 'a': accepted: a file name"},
      {"duplicate tensor", index_of(R"({"a":"m.safetensors","a":"m.safetensors"})"), "tensor 'a': duplicate key"},
      {"duplicate by escape", index_of(R"({"a":"m.safetensors","\u0061":"n.safetensors"})"),
       "tensor 'a': duplicate key"},
      {"duplicate weight_map", R"({"weight_map":{},"weight_map":{}})", "duplicate key 'weight_map'"},
      {"duplicate metadata", R"({"metadata":{},"metadata":{},"weight_map":{}})", "duplicate key 'metadata'"},
      {"duplicate total_size", R"({"metadata":{"total_size":1,"total_size":1},"weight_map":{}})",
       "duplicate key 'total_size'"},
      {"unknown key", R"({"weight_map":{},"extra":1})", "found key 'extra'"},
      {"metadata null", R"({"metadata":null,"weight_map":{}})", "metadata: accepted: an object"},
      {"metadata nested", R"({"metadata":{"x":{"y":1}},"weight_map":{}})",
       "metadata: 'x': accepted: a string, a number"},
      {"total_size a string", R"({"metadata":{"total_size":"4"},"weight_map":{}})", "total_size: accepted: an integer"},
      {"total_size 01", R"({"metadata":{"total_size":01},"weight_map":{}})", "byte"},
      {"total_size of 21 digits", R"({"metadata":{"total_size":100000000000000000000},"weight_map":{}})",
       "total_size: found"},
      {"control character in a tensor name", index_of(R"({"a\u0007":"m.safetensors"})"),
       "name has a control character"},
      {"tensor name of 4097 bytes", index_of("{\"" + std::string(4097, 'n') + R"(":"m.safetensors"})"),
       "name has 4097 bytes"},
      {"lone surrogate", index_of(R"({"\ud800":"m.safetensors"})"), "lone surrogate"},
      {"not UTF-8", index_of("{\"\xff\":\"m.safetensors\"}"), "byte"},
      {"garbage behind", index_of("{}") + "x", "byte"},
      {"second object", index_of("{}") + "{}", "byte"},
      {"cut", R"({"weight_map":{"a":"m.safe)", "byte"},
      {"trailing comma", index_of(R"({"a":"m.safetensors",})"), "byte"},
      {"byte order mark", "\xef\xbb\xbf" + index_of("{}"), "byte"},
  };
  for (const char* shard :
       {"/etc/m.safetensors", "../m.safetensors", "..", ".", "", "a/m.safetensors", "./m.safetensors",
        "a\\\\m.safetensors", "..\\\\m.safetensors", "m.safetensors/", "m\\u0000.safetensors", "m\\n.safetensors",
        "m.bin", "m.safetensors.bak", ".safetensors", "m.SAFETENSORS", "a\\u002fm.safetensors",
        "..\\u002f..\\u002fm.safetensors", "file:///m.safetensors"})
    cases.push_back({"shard "s + shard, index_of(R"({"a":")"s + shard + "\"}"), "tensor 'a': found shard"});
  cases.push_back(
      {"shard name of 300 bytes", index_of(R"({"a":")" + std::string(300, 's') + ".safetensors\"}"), "found shard"});
  return cases;
}

}  // namespace megamoe::test
