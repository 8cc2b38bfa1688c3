#include "messages.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace megamoe::cli {
namespace {

spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("megamoe", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made.set_pattern("megamoe: %v");
    return made;
  }();
  return instance;
}

}  // namespace

void set_quiet(bool quiet) { logger().set_level(quiet ? spdlog::level::err : spdlog::level::info); }

void message(std::string_view text) { logger().info("{}", text); }
void warning(std::string_view text) { logger().warn("warning: {}", text); }
void error(std::string_view text) { logger().error("error: {}", text); }

}  // namespace megamoe::cli
