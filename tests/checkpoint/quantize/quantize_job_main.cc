// quantize as a process of its own, so that a test can kill it: IN OUT RECIPE STOP. Dies by SIGKILL at the STOP-th
// report of progress.
#include <signal.h>
#include <unistd.h>

#include <cstdlib>

#include "megamoe/checkpoint.h"

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  megamoe::QuantizeOptions options;
  options.recipe = argv[3];
  const long stop = std::atol(argv[4]);
  long seen = 0;
  options.progress = [&](std::uint64_t, std::uint64_t, std::string_view) {
    if (++seen == stop) ::kill(::getpid(), SIGKILL);
  };
  megamoe::quantize(argv[1], argv[2], options);
  return 0;
}
