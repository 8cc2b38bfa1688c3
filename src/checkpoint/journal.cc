#include "checkpoint/journal.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>

#include "megamoe/error.h"

namespace megamoe {
namespace {

constexpr std::int64_t kJournalVersion = 2;

std::string text_field(const simdjson::dom::object& line, const char* key) {
  return std::string(std::string_view(line[key].get_string().value()));
}

}  // namespace

std::string format_journal(const Journal& journal) {
  const nlohmann::ordered_json run = {{"journal", kJournalVersion},
                                      {"tool", journal.run.tool},
                                      {"options", journal.run.options},
                                      {"source", journal.run.source}};
  std::string text = run.dump() + "\n";
  for (const auto& [name, entry] : journal.files) {
    const nlohmann::ordered_json line = {
        {"file", name}, {"bytes", entry.bytes}, {"content", entry.content}, {"sources", entry.sources}};
    text += line.dump() + "\n";
  }
  return text;
}

Journal parse_journal(std::string_view text, const std::string& file) {
  Journal journal;
  simdjson::dom::parser parser;
  std::size_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const std::size_t length = text.find('\n');
    if (length == std::string_view::npos) throw Error(Code::kBadFile, file, ": line ", line_number, " is not complete");
    try {
      const simdjson::dom::object line =
          parser.parse(simdjson::padded_string(text.substr(0, length))).get_object().value();
      if (line_number == 1) {
        const std::int64_t version = line["journal"].get_int64().value();
        if (version != kJournalVersion)
          throw Error(Code::kBadFile, file, ": found version ", version, ", accepted: ", kJournalVersion);
        journal.run = {text_field(line, "tool"), text_field(line, "options"), text_field(line, "source")};
      } else {
        journal.files[text_field(line, "file")] = {line["bytes"].get_uint64().value(), text_field(line, "content"),
                                                   text_field(line, "sources")};
      }
    } catch (const simdjson::simdjson_error& error) {
      throw Error(Code::kBadFile, file, ": line ", line_number, ": ", simdjson::error_message(error.error()));
    }
    text.remove_prefix(length + 1);
  }
  if (line_number == 0) throw Error(Code::kBadFile, file, ": is empty");
  return journal;
}

}  // namespace megamoe
