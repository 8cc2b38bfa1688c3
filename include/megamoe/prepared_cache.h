// A directory with a checkpoint's layers as a backend packed them: prepared once, then mapped in moments.
//
//   const Checkpoint checkpoint = Checkpoint::open("model-nvfp4");
//   MoeLayer layer = checkpoint.layer(3);
//   layer.problem.activations = ActivationFormat::kInt8;
//   prepare_layer(checkpoint, layer, "model.prepared");
//   MoeBlock block(layer, {.weights = load_layer(checkpoint, layer, "model.prepared")});
//
// One file a layer and format of activations (megamoe/prepared_file.h), "layer.3.int8.prepared". A file remembers the
// checkpoint that it was made of, by Checkpoint::identity().
#pragma once

#include <memory>
#include <string>

#include "megamoe/checkpoint.h"
#include "megamoe/moe.h"

namespace megamoe {

std::string prepared_layer_path(const std::string& cache, const MoeLayer& layer);

struct PrepareLayerOptions {
  std::string backend = "cpu";  // as PrepareOptions
  int threads = 0;
  bool replace = false;  // a file that is there; without it, such a file is an error
};

// Packs the layer's experts, one at a time, and writes their file, complete or not at all. Makes the directory.
void prepare_layer(const Checkpoint& checkpoint, const MoeLayer& layer, const std::string& cache,
                   const PrepareLayerOptions& options = {});

// Throws what load_prepared throws; kInvalidArgument for a file that was made of another checkpoint, or of this one
// before it was changed.
std::shared_ptr<const PreparedWeights> load_layer(const Checkpoint& checkpoint, const MoeLayer& layer,
                                                  const std::string& cache, const std::string& backend = "auto");

}  // namespace megamoe
