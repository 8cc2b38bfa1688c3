// megamoe: the command line. All logic is in the library; a verb reads its options, calls it, and prints.
#include <CLI/CLI.hpp>
#include <exception>
#include <new>
#include <string>

#include "command.h"
#include "megamoe/error.h"
#include "messages.h"
#include "output.h"

namespace megamoe::cli {
namespace {

ExitCode exit_code(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return kUsage;
    case Code::kUnsupported:
      return kNotSupported;
    case Code::kBadFile:
      return kBadFile;
    case Code::kOutOfMemory:
    case Code::kDevice:
    case Code::kTimeout:
    case Code::kInternal:
      return kMachine;
  }
  return kMachine;
}

// "megamoe run --help" for a mistake in run's options.
std::string help_command(const CLI::App& app) {
  const auto verbs = app.get_subcommands();
  return verbs.empty() ? "megamoe --help" : "megamoe " + verbs.front()->get_name() + " --help";
}

int main_checked(int argc, char** argv) {
  CLI::App app("Mixture-of-Experts layers with NVFP4 weights: quantise, inspect, convert, run, verify, measure.",
               "megamoe");
  app.set_version_flag("--version", "megamoe " MEGAMOE_VERSION);
  app.require_subcommand(0, 1);  // none is refused below, where the sentence can be a better one
  app.footer(std::string("megamoe VERB --help explains a verb and gives an example.\n") + kHelpFooter);

  Session session;
  add_info(app, session);
  add_inspect(app, session);
  add_quantize(app, session);
  add_convert(app, session);
  add_prepare(app, session);
  add_plan(app, session);
  add_run(app, session);
  add_verify(app, session);
  add_bench(app, session);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help, --version
    app.exit(wanted);
    finish_output();
    return kDone;
  } catch (const CLI::ParseError& mistake) {
    error(std::string(mistake.what()) + " (see " + help_command(app) + ")");
    return kUsage;
  }
  if (!session.action) {
    error("no verb was given (see megamoe --help)");
    return kUsage;
  }
  set_quiet(session.quiet);
  const int code = session.action();
  finish_output();
  return code;
}

}  // namespace

}  // namespace megamoe::cli

int main(int argc, char** argv) {
  using namespace megamoe;
  try {
    return cli::main_checked(argc, argv);
  } catch (const Error& fault) {
    cli::error(fault.what());
    return cli::exit_code(fault.code());
  } catch (const std::bad_alloc&) {
    cli::error("out of memory");
    return cli::kMachine;
  } catch (const std::exception& fault) {
    cli::error(fault.what());
    return cli::kMachine;
  }
}
