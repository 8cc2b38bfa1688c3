// Input: the text of config.json, and after a NUL that of hf_quant_config.json.
//
// Whatever is accepted must be JSON for another parser too, mean a model whose sizes fit together, and, with a
// dialect's own words put in, be read back as that dialect.
#include <nlohmann/json.hpp>

#include "check.h"
#include "checkpoint/dialects/dialect.h"
#include "checkpoint/families/family.h"
#include "megamoe/error.h"
#include "megamoe/routing.h"

namespace {

using namespace megamoe;

void read_as_model(const ConfigFiles& files) {
  Findings findings;
  const Architecture a = read_architecture(files.config, findings);
  if (findings.empty()) {
    FUZZ_CHECK(a.family != nullptr && a.hidden % 16 == 0 && a.inter % 16 == 0 && !a.moe_layers.empty());
    validate(a.routing, a.experts, a.top_k);
  }
  if (const Dialect* dialect = dialect_of_config(files, findings)) {
    const QuantConfig quant = dialect->read_config(files, findings);
    for (const char* module : {"lm_head", "model.layers.0.mlp.gate", "model.layers.0.mlp.experts.0.gate_proj"})
      quant.of(module);
  }
}

void write_and_read_back(const ConfigFiles& files) {
  for (const Dialect* dialect : dialects()) {
    if (dialect->quant_method.empty()) continue;
    nlohmann::ordered_json config = files.config.json();
    remove_quantization(config);
    const auto side_files = dialect->write_config({.input_scales = true, .unquantised = {"lm_head"}}, config);
    ConfigFiles written{.config = Config::parse(config.dump(), "config.json"), .hf_quant = std::nullopt};
    for (const auto& [name, text] : side_files) written.hf_quant = Config::parse(text, name);
    Findings findings;
    FUZZ_CHECK(dialect_of_config(written, findings) == dialect);
    const QuantConfig quant = dialect->read_config(written, findings);
    FUZZ_CHECK(findings.empty());
    FUZZ_CHECK(quant.of("lm_head").kind == ModuleQuant::Kind::kNone);
    FUZZ_CHECK(quant.of("a.b").kind == ModuleQuant::Kind::kNvfp4 && quant.of("a.b").input_scales);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t end = text.find('\0');
  try {
    ConfigFiles files{.config = Config::parse(text.substr(0, end), "config.json"), .hf_quant = std::nullopt};
    FUZZ_CHECK(nlohmann::json::accept(text.substr(0, end)));
    if (end != std::string_view::npos) files.hf_quant = Config::parse(text.substr(end + 1), "hf_quant_config.json");
    read_as_model(files);
    write_and_read_back(files);
  } catch (const Error& error) {
    FUZZ_CHECK(error.code() == Code::kBadFile);
  }
  return 0;
}
