#include "verb.h"

#include <CLI/CLI.hpp>
#include <limits>

namespace megamoe::cli {
namespace {

void apply(CLI::Option* option, Need need) {
  option->capture_default_str();
  if (need == Need::kRequired) option->required();
}

// A number from `least` on; the type's own range would only be noise in the help.
template <class T>
CLI::Validator at_least(T least) {
  return CLI::Range(least, std::numeric_limits<T>::max()).description("");
}

// A value below `least` means "not given": help shows no default.
template <class T>
void apply_least(CLI::Option* option, T value, T least, Need need) {
  option->check(at_least(least));
  if (value >= least) option->capture_default_str();
  if (need == Need::kRequired) option->required();
}

}  // namespace

const char* const kHelpFooter =
    "Exit codes: 0 done, 1 a check failed, 2 usage, 3 not supported, 4 bad or missing file, 5 out of memory or "
    "internal "
    "fault.\nTables go to standard output (--json: one JSON object), messages to standard error. NO_COLOR is obeyed.";

Verb::Verb(CLI::App& app, Session& session, const char* name, const char* summary, const std::string& example,
           bool& json)
    : app_(app.add_subcommand(name, summary)), session_(&session) {
  app_->add_flag("--json", json, "One JSON object on standard output");
  app_->add_flag("-q,--quiet", session.quiet, "No progress and no messages but errors");
  app_->footer("Example:\n  " + example + "\n\n" + kHelpFooter);
}

void Verb::flag(const char* names, bool& value, const std::string& help) { app_->add_flag(names, value, help); }

void Verb::text(const char* names, std::string& value, const std::string& help, Need need) {
  apply(app_->add_option(names, value, help), need);
}

void Verb::choice(const char* names, std::string& value, const std::vector<std::string>& accepted,
                  const std::string& help) {
  CLI::Option* option = app_->add_option(names, value, help);
  option->check(CLI::IsMember(accepted));
  apply(option, Need::kOptional);
}

void Verb::integer(const char* names, std::int64_t& value, std::int64_t least, const std::string& help, Need need) {
  apply_least(app_->add_option(names, value, help), value, least, need);
}

void Verb::integer(const char* names, int& value, int least, const std::string& help) {
  apply_least(app_->add_option(names, value, help), value, least, Need::kOptional);
}

void Verb::integers(const char* names, std::vector<std::int64_t>& values, std::int64_t least, const std::string& help) {
  CLI::Option* option = app_->add_option(names, values, help);
  option->delimiter(',')->check(at_least(least));
  apply(option, Need::kOptional);
}

void Verb::number(const char* names, double& value, double least, const std::string& help) {
  apply_least(app_->add_option(names, value, help), value, least, Need::kOptional);
}

void Verb::excludes(const char* name, const char* other) { app_->get_option(name)->excludes(app_->get_option(other)); }

void Verb::needs(const char* name, const char* other) { app_->get_option(name)->needs(app_->get_option(other)); }

void Verb::action(std::function<int()> run) {
  app_->callback([session = session_, run = std::move(run)] { session->action = run; });
}

}  // namespace megamoe::cli
