// What is odd about a layer but changes nothing: notes for inspect.
#include <algorithm>

#include "checkpoint/layer.h"

namespace megamoe {
namespace {

void note(const Model& model, int pitfall, const Tensor& tensor, Pass& pass, const std::string& sentence) {
  pass.notes.add(pitfall, std::string(tensor.name), model.file_of(tensor), sentence);
}

void note_gate_up_globals(const Model& model, const StoredLayer& layer, Pass& pass) {
  const StoredMatrix* first = nullptr;
  std::int64_t differing = 0, pairs = 0;
  float worst = 1.0f;
  for (const StoredExpert& expert : layer.experts) {
    const auto& gate = expert.matrices[0];
    const auto& up = expert.matrices[1];
    if (!gate || !up || gate->global == nullptr || up->global == nullptr) continue;
    ++pairs;
    const float ratio = gate->view.global_scale / up->view.global_scale;
    if (ratio == 1.0f) continue;
    worst = std::max(worst, std::max(ratio, 1.0f / ratio));
    if (differing++ == 0) first = &*up;
  }
  if (first != nullptr)
    note(model, 2, *first->global, pass,
         "gate and up have different global scales in " + std::to_string(differing) + " of " + std::to_string(pairs) +
             " experts (ratio up to " + std::to_string(worst) + "): both are kept");
}

void note_scalar_shapes(const Model& model, const StoredLayer& layer, Pass& pass) {
  const Tensor* by_rank[2] = {nullptr, nullptr};
  for (const StoredMatrix* matrix : layer.routed())
    if (matrix->global != nullptr) by_rank[matrix->global->view.shape.rank()] = matrix->global;
  if (by_rank[0] != nullptr && by_rank[1] != nullptr)
    note(model, 13, *by_rank[1], pass, "shape [1], but " + std::string(by_rank[0]->name) + " has []: both are read");
}

void note_spread(const Model& model, const StoredLayer& layer, Pass& pass) {
  for (const StoredMatrix* matrix : layer.routed())
    for (const Tensor* part : {matrix->sf, matrix->global, matrix->input})
      if (part != nullptr && part->shard != matrix->weight->shard)
        return note(model, 12, *part, pass,
                    "its codes are in another file, " + model.file_of(*matrix->weight) + ": both are read");
}

void note_input_scales(const Model& model, const StoredLayer& layer, Pass& pass) {
  const Tensor* first = nullptr;
  float least = 0.0f, most = 0.0f;
  for (const StoredExpert& expert : layer.experts)
    for (int which = 0; which < 2; ++which) {  // gate and up see the same input
      const auto& matrix = expert.matrices[static_cast<std::size_t>(which)];
      if (!matrix || matrix->input == nullptr) continue;
      if (first == nullptr) least = most = matrix->input_scale;
      if (first == nullptr || matrix->input_scale > most) first = matrix->input;
      least = std::min(least, matrix->input_scale);
      most = std::max(most, matrix->input_scale);
    }
  if (first != nullptr && least != most)
    note(model, 14, *first, pass,
         "input scales of gate and up differ between experts: an engine that uses one for all needs the largest, " +
             std::to_string(most) + ", of all experts of the model, not of one rank's");
}

}  // namespace

void note_oddities(const Model& model, const StoredLayer& layer, Pass& pass) {
  note_gate_up_globals(model, layer, pass);
  note_scalar_shapes(model, layer, pass);
  note_spread(model, layer, pass);
  note_input_scales(model, layer, pass);
}

}  // namespace megamoe
