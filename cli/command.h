// What every verb of the command line shares. A verb is one cmd_*.cc: it adds its options to the application and leaves
// its action in the session; main runs the action of the verb that was named.
#pragma once

#include "verb.h"

namespace megamoe::cli {

enum ExitCode : int {
  kDone = 0,
  kCheckFailed = 1,
  kUsage = 2,
  kNotSupported = 3,
  kBadFile = 4,
  kMachine = 5,  // out of memory, a device failed, or a fault of megamoe itself
};

void add_info(CLI::App& app, Session& session);
void add_inspect(CLI::App& app, Session& session);
void add_quantize(CLI::App& app, Session& session);
void add_convert(CLI::App& app, Session& session);
void add_prepare(CLI::App& app, Session& session);
void add_plan(CLI::App& app, Session& session);
void add_run(CLI::App& app, Session& session);
void add_verify(CLI::App& app, Session& session);
void add_bench(CLI::App& app, Session& session);

}  // namespace megamoe::cli
