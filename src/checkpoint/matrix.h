// One weight matrix as a checkpoint stores it: the tensors of its module, checked.
#pragma once

#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "checkpoint/model.h"
#include "megamoe/moe.h"

namespace megamoe {

struct StoredMatrix {
  std::string module;        // "model.layers.0.mlp.experts.3.gate_proj"
  MatrixView view;           // canonical; where the tensor is F16 or F32, `data` points to that
  DType dtype = DType::kU8;  // as stored: kU8 for nvfp4, else kBF16, kF16 or kF32
  const Tensor* weight = nullptr;
  const Tensor* sf = nullptr;  // nvfp4 only, as the next two
  const Tensor* global = nullptr;
  const Tensor* input = nullptr;  // nullptr = absent
  float input_scale = 0.0f;       // multiplier; 0 = absent

  std::uint64_t bytes() const noexcept;  // of its tensors
};

// What a pass over tensors has found, and which tensors it has understood.
struct Pass {
  Findings problems;
  Findings notes;
  std::unordered_set<const Tensor*> known;
};

// Reads the matrix of `module`, [rows, cols]: NVFP4 or plain, whichever is there. Presence, type, shape and scalars are
// checked, and that the config says the same; nullopt (and findings) where it can not be used.
std::optional<StoredMatrix> read_matrix(const Model& model, const std::string& module, std::int64_t rows,
                                        std::int64_t cols, Pass& pass);

// A global or input scale as a multiplier; 0 (and a finding) where it can not be one.
float read_multiplier(const Model& model, const Tensor& tensor, Pass& pass);

// Reads every block scale: NaN, negative, zero above codes that are not, and sizes that no weight has (which tells a
// reciprocal global from a multiplier). Codes are read only below zero scales.
void check_scales(const Model& model, const StoredMatrix& matrix, Pass& pass);

// A float tensor of this shape as f32, from BF16, F16 or F32; every element must be finite. Empty (and a finding) where
// it can not be read.
std::vector<float> read_float_tensor(const Model& model, const std::string& name, const Shape& shape, Pass& pass);

}  // namespace megamoe
