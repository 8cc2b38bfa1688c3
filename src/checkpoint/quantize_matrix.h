// One matrix of quantize, from the mapped checkpoint to the file that is written. A piece is read, quantised, measured,
// hashed and written while the cache has it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "checkpoint/matrix.h"
#include "checkpoint/safetensors_writer.h"
#include "checkpoint/xxh3.h"
#include "megamoe/quant.h"
#include "megamoe/quant/error_stats.h"

namespace megamoe {

// Memory of one thread.
struct MatrixScratch {
  std::vector<std::uint8_t> codes, sf;
  std::vector<float> want, got;
};

struct ScannedMatrix {
  float amax = 0.0f;                      // max |w| as the recipe wants it
  std::vector<std::uint16_t> block_amax;  // of each block, as bits of BF16; of BF16 only
  Xxh3Digest digest;                      // of the bytes as stored
};

// Throws kBadFile for a weight that is not finite.
void scan_matrix(const Model& model, const StoredMatrix& matrix, QuantRecipe recipe, MatrixScratch& scratch,
                 ScannedMatrix& scanned);

// After the last look at the matrix.
void forget_matrix(const Model& model, const StoredMatrix& matrix) noexcept;

// Adds the difference between the weights and what the codes say.
void measure_matrix(const StoredMatrix& matrix, std::span<const std::uint8_t> codes, std::span<const std::uint8_t> sf,
                    float global_scale, MatrixScratch& scratch, ErrorStats& error);

// Appends the matrix's codes and block scales to the tensors of these names, and measures them.
struct MatrixNames {
  std::string codes, sf;
};
void write_matrix(const StoredMatrix& matrix, const ScannedMatrix& scanned, QuantRecipe recipe, float global_scale,
                  const MatrixNames& names, SafetensorsWriter& writer, MatrixScratch& scratch, ErrorStats& error);

}  // namespace megamoe
