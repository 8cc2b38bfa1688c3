// No quantisation: BF16, F16 or F32 weights.
#include <nlohmann/json.hpp>

#include "checkpoint/dialects/dialect.h"

namespace megamoe {
namespace {

QuantConfig read_config(const ConfigFiles&, Findings&) { return {}; }

std::vector<SideFile> write_config(const WrittenQuant&, nlohmann::ordered_json&) { return {}; }

}  // namespace

extern const Dialect kPlain;
const Dialect kPlain{.name = "plain",
                     .quant_method = {},
                     .codes = {},
                     .sf = {},
                     .global = {},
                     .input = {},
                     .stores_reciprocals = false,
                     .scalar_rank = 0,
                     .read_config = read_config,
                     .write_config = write_config};

}  // namespace megamoe
