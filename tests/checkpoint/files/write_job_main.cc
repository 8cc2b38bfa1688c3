// write_job INPUT OUTPUT resume|overwrite [exit-at=N | file-limit=BYTES | user=UID | slow-us=N]
// The job of write_job.h in a process of its own, so that it can end, be limited or be killed.
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "checkpoint/files/fault_ops.h"
#include "checkpoint/files/write_job.h"
#include "megamoe/error.h"

int main(int argc, char** argv) {
  using namespace megamoe;
  if (argc < 4) return 2;
  const std::string fault = argc > 4 ? argv[4] : "";
  const std::size_t equals = fault.find('=');
  const std::string kind = fault.substr(0, equals);
  const int number = equals == std::string::npos ? 0 : std::atoi(fault.c_str() + equals + 1);

  test::FaultOps ops;
  if (kind == "exit-at") ops = test::FaultOps(test::Fault::kExit, number);
  if (kind == "slow-us") ops.set_delay_us(number);
  if (kind == "file-limit") {
    const rlimit limit{static_cast<rlim_t>(number), static_cast<rlim_t>(number)};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
  }
  if (kind == "user" && (::setgid(static_cast<gid_t>(number)) != 0 || ::setuid(static_cast<uid_t>(number)) != 0))
    return 3;
  try {
    test::run_write_job(argv[1], argv[2],
                        std::string(argv[3]) == "overwrite" ? ExistingOutput::kOverwrite : ExistingOutput::kResume,
                        ops);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 4;
  }
  return 0;
}
