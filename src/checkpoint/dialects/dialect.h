// A dialect: how a quantised matrix is spread over tensors, and how the configs speak about it. One file of this folder
// describes one dialect; dialects.cc lists them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/dialects/quant_config.h"

namespace megamoe {

// A file that goes beside the shards, as JSON text.
using SideFile = std::pair<std::string, std::string>;

struct Dialect {
  std::string_view name;
  std::string_view quant_method;  // of config.json's quantization_config; empty = the dialect without quantisation

  // Tensors of a quantised module; empty where the dialect has none of the kind.
  std::string_view codes;   // U8 [n, k/2], low nibble = even k
  std::string_view sf;      // F8_E4M3 [n, k/16]
  std::string_view global;  // F32 scalar
  std::string_view input;   // F32 scalar
  bool stores_reciprocals;  // of the global and input scales
  int scalar_rank;          // of the scalars when written: 0 = [], 1 = [1]; both are read

  // Reads what the configs say. Faults become findings.
  QuantConfig (*read_config)(const ConfigFiles& files, Findings& findings);
  // Puts the dialect's quantization_config into `config` (any older one is gone already) and returns the other files.
  std::vector<SideFile> (*write_config)(const WrittenQuant& quant, nlohmann::ordered_json& config);
};

// Names of a module's tensors that are not quantised, in every dialect.
inline constexpr std::string_view kPlainWeight = ".weight";

std::span<const Dialect* const> dialects();  // the plain one first
const Dialect& plain_dialect();
const Dialect* find_dialect(std::string_view name) noexcept;      // nullptr where there is none
const Dialect& require_quantised_dialect(std::string_view name);  // throws kInvalidArgument listing those accepted

// The dialect that the configs name, the plain one where they say nothing, nullptr (and a finding) where they name
// something else.
const Dialect* dialect_of_config(const ConfigFiles& files, Findings& findings);
// The quantised dialect whose tensors `name` can only belong to; nullptr where the name tells nothing.
const Dialect* dialect_of_tensor(std::string_view name) noexcept;

// The quantization_config of a config.json, of its text_config where that has one; nullopt where there is none.
std::optional<ConfigReader> quantization_block(ConfigReader& config);
// Removes what an earlier quantisation wrote into a config.
void remove_quantization(nlohmann::ordered_json& config);

}  // namespace megamoe
