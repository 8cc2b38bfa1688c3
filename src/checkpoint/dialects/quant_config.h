// What the configs of a checkpoint say about quantisation, in one form for all dialects.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"
#include "checkpoint/dialects/module_patterns.h"

namespace megamoe {

// The configs of one model directory.
struct ConfigFiles {
  Config config;                   // config.json
  std::optional<Config> hf_quant;  // hf_quant_config.json
};

struct ModuleQuant {
  enum class Kind : std::uint8_t { kNone, kNvfp4, kOther };
  Kind kind = Kind::kNone;
  bool input_scales = false;  // activations are quantised with scales from the file
  std::string other;          // kOther: how the config calls it
};

class QuantConfig {
 public:
  struct Group {
    ModulePatterns targets;
    bool all_linear = false;  // takes every module that no group takes by name
    ModuleQuant quant;
  };

  std::vector<Group> groups;  // the first that matches wins
  ModulePatterns ignored;
  bool has_kv_cache_scheme = false;

  ModuleQuant of(std::string_view module) const {
    if (ignored.matches(module)) return {};
    for (const Group& group : groups)
      if (group.targets.matches(module)) return group.quant;
    for (const Group& group : groups)
      if (group.all_linear) return group.quant;
    return {};
  }
};

// What the config of a written model has to say.
struct WrittenQuant {
  bool input_scales = false;
  std::vector<std::string> unquantised;  // modules that keep their type, ascending
};

}  // namespace megamoe
