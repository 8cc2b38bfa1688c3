#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "checkpoint/prepared_file.h"
#include "checkpoint/quote.h"
#include "checkpoint/strict_json.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

constexpr std::uint32_t kMaxJsonBytes = 1 << 20;

static_assert(std::endian::native == std::endian::little, "numbers in the file are little-endian, and so is memory");

std::uint64_t aligned(std::uint64_t offset) { return (offset + kPreparedAlign - 1) / kPreparedAlign * kPreparedAlign; }

std::string json_text(const PreparedHeader& header) {
  nlohmann::ordered_json sections = nlohmann::ordered_json::array();
  for (const PreparedSection& section : header.sections)
    sections.push_back({{"name", section.name}, {"offset", section.offset}, {"bytes", section.bytes}});
  const nlohmann::ordered_json json = {{"backend", header.backend},       {"layout", header.layout},
                                       {"problem", header.problem},       {"source", header.source},
                                       {"file_bytes", header.file_bytes}, {"sections", std::move(sections)}};
  return json.dump(1);
}

void place_sections(PreparedHeader& header, std::uint64_t first) {
  header.file_bytes = first;
  for (PreparedSection& section : header.sections) {
    section.offset = aligned(header.file_bytes);
    header.file_bytes = section.offset + section.bytes;
  }
}

class HeaderReader {
 public:
  HeaderReader(std::string text, const std::string& path) : json_(std::move(text), path + ": header") {}

  PreparedHeader read() {
    json_.read_root([this](StrictJson::Object root) { read_object(root); });
    return std::move(header_);
  }

 private:
  void read_object(StrictJson::Object root) {
    unsigned seen = 0;
    json_.each_field(root, [&](std::string_view key, StrictJson::Value value) {
      static constexpr std::string_view kKeys[] = {"backend", "layout", "problem", "source", "file_bytes", "sections"};
      const auto at = std::find(std::begin(kKeys), std::end(kKeys), key) - std::begin(kKeys);
      if (at == std::ssize(kKeys) || (seen >> at & 1u) != 0)
        json_.fail_here("found key ", quote(key), ", accepted, once each: backend, layout, problem, source, ",
                        "file_bytes, sections");
      seen |= 1u << at;
      if (key == "backend") header_.backend = text(value, key);
      if (key == "problem") header_.problem = text(value, key);
      if (key == "source") header_.source = text(value, key);
      if (key == "layout") header_.layout = json_.plain_integer(value, key);
      if (key == "file_bytes") header_.file_bytes = json_.plain_integer(value, key);
      if (key == "sections") read_sections(value);
    });
    if (seen != 0x3F)
      json_.fail_here("a key is missing, accepted: backend, layout, problem, source, file_bytes, sections");
  }

  void read_sections(StrictJson::Value value) {
    if (!StrictJson::is_array(value)) json_.fail_here("sections: accepted: an array");
    simdjson::ondemand::array elements = value.get_array().value();
    for (auto element : elements) {
      StrictJson::Value item = element.value();
      if (!StrictJson::is_object(item)) json_.fail_here("sections: accepted: objects");
      PreparedSection section;
      json_.each_field(item.get_object().value(), [&](std::string_view key, StrictJson::Value field) {
        if (key == "name")
          section.name = text(field, key);
        else if (key == "offset")
          section.offset = json_.plain_integer(field, key);
        else if (key == "bytes")
          section.bytes = json_.plain_integer(field, key);
        else
          json_.fail_here("sections: found key ", quote(key), ", accepted: name, offset, bytes");
      });
      header_.sections.push_back(std::move(section));
    }
  }

  std::string text(StrictJson::Value value, std::string_view key) {
    if (!StrictJson::is_string(value)) json_.fail_here(key, ": accepted: a string");
    return std::string(value.get_string().value());
  }

  StrictJson json_;
  PreparedHeader header_;
};

void check_sections(const MappedFile& file, const PreparedHeader& header) {
  if (header.file_bytes != file.size())
    throw Error(Code::kBadFile, file.path(), ": its header says ", header.file_bytes, " bytes, it has ", file.size());
  for (const PreparedSection& section : header.sections)
    if (section.offset % kPreparedAlign != 0 || section.offset > file.size() ||
        section.bytes > file.size() - section.offset)
      throw Error(Code::kBadFile, file.path(), ": section ", quote(section.name), ": found ", section.bytes,
                  " bytes at byte ", section.offset, ", accepted: inside the file's ", file.size(),
                  ", at a multiple of ", kPreparedAlign);
}

}  // namespace

std::string layout_prepared(PreparedHeader& header) {
  if (!simdjson::validate_utf8(header.source))
    throw Error(Code::kInvalidArgument, "prepared file: asked the source ", quote(header.source), ", accepted: UTF-8");
  // Offsets are digits of the JSON whose length they depend on: a page for the digits is always enough.
  place_sections(header, aligned(kPreparedPrefixBytes + json_text(header).size() + kPreparedAlign));
  const std::string json = json_text(header);
  if (json.size() > kMaxJsonBytes)
    throw Error(Code::kInternal, "prepared weights: a header of ", json.size(), " bytes, at most ", kMaxJsonBytes);
  const std::uint32_t numbers[2] = {kPreparedFormat, static_cast<std::uint32_t>(json.size())};
  std::string prefix(kPreparedMagic);
  prefix.append(reinterpret_cast<const char*>(numbers), sizeof numbers);
  return prefix + json;
}

PreparedHeader read_prepared_header(const MappedFile& file) {
  char prefix[kPreparedPrefixBytes];
  const bool is_long_enough = file.size() >= sizeof prefix;
  if (is_long_enough) file.read_at(0, std::as_writable_bytes(std::span(prefix)));
  if (!is_long_enough || std::string_view(prefix, kPreparedMagic.size()) != kPreparedMagic)
    throw Error(Code::kBadFile, file.path(), ": is no file of prepared weights: it does not begin with '",
                kPreparedMagic, "' and two numbers");
  std::uint32_t numbers[2];
  std::memcpy(numbers, prefix + kPreparedMagic.size(), sizeof numbers);
  if (numbers[0] != kPreparedFormat)
    throw Error(Code::kUnsupported, file.path(), ": has format ", numbers[0],
                " of prepared weights, accepted: ", kPreparedFormat);
  if (numbers[1] > kMaxJsonBytes || numbers[1] > file.size() - sizeof prefix)
    throw Error(Code::kBadFile, file.path(), ": its header has ", numbers[1], " bytes, the file ", file.size(),
                ", accepted: a whole header of at most ", kMaxJsonBytes);
  std::string text(numbers[1], '\0');
  file.read_at(sizeof prefix, std::as_writable_bytes(std::span(text)));
  PreparedHeader header = HeaderReader(std::move(text), file.path()).read();
  check_sections(file, header);
  return header;
}

}  // namespace megamoe
