// One MoE layer as a checkpoint stores it: every tensor of its block found, checked and understood.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/matrix.h"

namespace megamoe {

// gate, up, down: the order of every array of three here.
struct StoredExpert {
  std::array<std::optional<StoredMatrix>, 3> matrices;
};

struct StoredLayer {
  std::int64_t index = 0;
  std::vector<StoredExpert> experts;  // of the config's number
  std::optional<StoredExpert> shared;
  std::vector<float> router;       // [experts, hidden]
  std::vector<float> choice_bias;  // [experts], or empty
  std::vector<float> shared_gate;  // [hidden], or empty

  // All matrices that could be read.
  std::vector<const StoredMatrix*> routed() const;
};

// Reads the whole block. Also refuses tensors of the block that nobody knows. The model is readable.
StoredLayer read_layer(const Model& model, std::int64_t index, Pass& pass);

// The format of all routed matrices; a finding, and the first one's, where they are not the same.
WeightFormat weight_format(const Model& model, const StoredLayer& layer, Pass& pass);

// Reads every block scale of the layer (see check_scales).
void check_layer_scales(const Model& model, const StoredLayer& layer, Pass& pass);

// Observations that change nothing for megamoe: gate and up globals, scalar shapes, input scales, spread over files.
void note_oddities(const Model& model, const StoredLayer& layer, Pass& pass);

}  // namespace megamoe
