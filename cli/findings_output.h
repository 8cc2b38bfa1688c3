// Findings about a checkpoint, for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "megamoe/checkpoint.h"

namespace megamoe::cli {

nlohmann::json findings_json(const std::vector<Finding>& findings);

// An empty line and one paragraph a finding: "problem: file: tensor: sentence", and which known pitfall it is. Nothing
// where there is none.
void print_findings(std::string_view kind, const std::vector<Finding>& findings);

}  // namespace megamoe::cli
