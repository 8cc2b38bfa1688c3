#include "findings_output.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "output.h"

namespace megamoe::cli {

nlohmann::json findings_json(const std::vector<Finding>& findings) {
  nlohmann::json list = nlohmann::json::array();
  for (const Finding& finding : findings)
    list.push_back({{"pitfall", finding.pitfall},
                    {"tensor", finding.tensor},
                    {"file", finding.file},
                    {"sentence", finding.sentence}});
  return list;
}

void print_findings(std::string_view kind, const std::vector<Finding>& findings) {
  if (findings.empty()) return;
  print_line();
  for (const Finding& finding : findings) {
    const std::string known =
        finding.pitfall == 0 ? "" : fmt::format(" [pitfall {}: {}]", finding.pitfall, pitfall_title(finding.pitfall));
    print_line(fmt::format("{}: {}{}", kind == "problem" ? bad(kind) : bold(kind), finding.to_string(), known));
  }
}

}  // namespace megamoe::cli
