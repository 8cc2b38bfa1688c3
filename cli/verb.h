// One verb and its options. The only place (with main.cc) that includes CLI11, which is costly to compile.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace megamoe::cli {

struct Session {
  std::function<int()> action;  // of the verb that was named; returns an ExitCode
  bool quiet = false;           // only errors on stderr
};

enum class Need : std::uint8_t { kOptional, kRequired };

// Names as CLI11 takes them: "-o,--output", or "DIR" for a positional argument. Values keep what they hold as their
// default, which help shows; a number below `least` stands for one that is not given.
class Verb {
 public:
  // Has --quiet and --json, and `example` at the end of its help.
  Verb(CLI::App& app, Session& session, const char* name, const char* summary, const std::string& example, bool& json);

  void flag(const char* names, bool& value, const std::string& help);
  void text(const char* names, std::string& value, const std::string& help, Need need = Need::kOptional);
  void choice(const char* names, std::string& value, const std::vector<std::string>& accepted, const std::string& help);
  void integer(const char* names, std::int64_t& value, std::int64_t least, const std::string& help,
               Need need = Need::kOptional);
  void integer(const char* names, int& value, int least, const std::string& help);
  void integers(const char* names, std::vector<std::int64_t>& values, std::int64_t least, const std::string& help);
  void number(const char* names, double& value, double least, const std::string& help);

  void excludes(const char* name, const char* other);  // one of both at most
  void needs(const char* name, const char* other);     // `name` only together with `other`

  void action(std::function<int()> run);

 private:
  CLI::App* app_;
  Session* session_;
};

// Exit codes and streams, for the end of every help.
extern const char* const kHelpFooter;

}  // namespace megamoe::cli
