#include "megamoe/prepared_cache.h"

#include <filesystem>

#include "megamoe/error.h"
#include "megamoe/prepared_file.h"

namespace megamoe {

std::string prepared_layer_path(const std::string& cache, const MoeLayer& layer) {
  const std::string file =
      "layer." + std::to_string(layer.index) + "." + std::string(name(layer.problem.activations)) + ".prepared";
  return (std::filesystem::path(cache) / file).string();
}

void prepare_layer(const Checkpoint& checkpoint, const MoeLayer& layer, const std::string& cache,
                   const PrepareLayerOptions& options) {
  const auto weights = prepare(layer.problem, *layer.experts, {.backend = options.backend, .threads = options.threads});
  std::error_code fault;
  std::filesystem::create_directories(cache, fault);
  if (fault) throw Error(Code::kBadFile, cache, ": ", fault.message());
  save_prepared(*weights, prepared_layer_path(cache, layer),
                {.source = checkpoint.identity(), .replace = options.replace});
}

std::shared_ptr<const PreparedWeights> load_layer(const Checkpoint& checkpoint, const MoeLayer& layer,
                                                  const std::string& cache, const std::string& backend) {
  return load_prepared(prepared_layer_path(cache, layer),
                       {.backend = backend, .problem = layer.problem, .source = checkpoint.identity()});
}

}  // namespace megamoe
