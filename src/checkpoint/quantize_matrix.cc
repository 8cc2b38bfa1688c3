#include "checkpoint/quantize_matrix.h"

#include <algorithm>
#include <cmath>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"
#include "quant/rne_bf16.h"
#include "quant/row_reader.h"

namespace megamoe {
namespace {

// Bytes that are hashed and looked at together: they stay in the L1 cache.
constexpr std::size_t kScanBytes = 16 << 10;
// Blocks that are quantised and written together: 128 KiB of BF16, which with its 36 KiB of NVFP4 stay in the L2 cache.
constexpr std::int64_t kPieceBlocks = 4096;

[[noreturn]] void refuse(const Model& model, const StoredMatrix& matrix, std::int64_t row, std::int64_t col,
                         float value) {
  throw Error(Code::kBadFile, model.file_of(*matrix.weight), ": ", matrix.weight->name, ": element [", row, ", ", col,
              "] is ", value, ", accepted: finite weights");
}

float amax_of_row(const Model& model, const StoredMatrix& matrix, QuantRecipe recipe, std::int64_t r,
                  std::vector<float>& row) {
  row.resize(static_cast<std::size_t>(matrix.view.cols));
  read_floats(matrix.view.data, matrix.dtype, r * matrix.view.cols, matrix.view.cols, row.data());
  const auto bad = std::ranges::find_if(row, [](float value) { return !std::isfinite(value); });
  if (bad != row.end()) refuse(model, matrix, r, bad - row.begin(), *bad);
  return nvfp4_amax(recipe, row);
}

std::span<const std::byte> bytes_of(const StoredMatrix& matrix) {
  return {matrix.view.data, static_cast<std::size_t>(matrix.weight->view.bytes())};
}

}  // namespace

void scan_matrix(const Model& model, const StoredMatrix& matrix, QuantRecipe recipe, MatrixScratch& scratch,
                 ScannedMatrix& scanned) {
  const std::span<const std::byte> bytes = bytes_of(matrix);
  const bool is_bf16 = matrix.dtype == DType::kBF16;
  scanned.block_amax.resize(is_bf16 ? bytes.size() / (2 * kNvfp4Block) : 0);
  Xxh3 hash;
  std::uint16_t amax = 0;
  for (std::size_t done = 0; done < bytes.size(); done += kScanBytes) {
    const auto piece = bytes.subspan(done, std::min(kScanBytes, bytes.size() - done));
    hash.update(piece);
    if (!is_bf16) continue;
    constexpr std::size_t kBlockBytes = 2 * kNvfp4Block;
    amax = std::max(amax, scan_bf16(piece.data(), static_cast<std::int64_t>(piece.size() / kBlockBytes),
                                    &scanned.block_amax[done / kBlockBytes]));
  }
  scanned.digest = hash.finish();
  scanned.amax = bf16_to_float(amax);
  // Row by row where there is no faster way, and where the number that is not finite is to be found.
  if (!is_bf16 || !std::isfinite(scanned.amax)) {
    scanned.amax = 0.0f;
    for (std::int64_t r = 0; r < matrix.view.rows; ++r)
      scanned.amax = std::max(scanned.amax, amax_of_row(model, matrix, recipe, r, scratch.want));
  }
}

void forget_matrix(const Model& model, const StoredMatrix& matrix) noexcept {
  model.files.shards()[matrix.weight->shard].file().forget(bytes_of(matrix));
}

void measure_matrix(const StoredMatrix& matrix, std::span<const std::uint8_t> codes, std::span<const std::uint8_t> sf,
                    float global_scale, MatrixScratch& scratch, ErrorStats& error) {
  const auto cols = static_cast<std::size_t>(matrix.view.cols);
  scratch.want.resize(cols);
  scratch.got.resize(cols);
  for (std::size_t r = 0; r < static_cast<std::size_t>(matrix.view.rows); ++r) {
    read_floats(matrix.view.data, matrix.dtype, static_cast<std::int64_t>(r * cols), matrix.view.cols,
                scratch.want.data());
    dequantize_nvfp4_row(&codes[r * cols / 2], &sf[r * cols / kNvfp4Block], global_scale, scratch.got);
    error.add(scratch.want, scratch.got);
  }
}

void write_matrix(const StoredMatrix& matrix, const ScannedMatrix& scanned, QuantRecipe recipe, float global_scale,
                  const MatrixNames& names, SafetensorsWriter& writer, MatrixScratch& scratch, ErrorStats& error) {
  const std::int64_t blocks = matrix.view.rows * matrix.view.cols / kNvfp4Block;
  scratch.sf.resize(static_cast<std::size_t>(blocks));
  if (recipe == QuantRecipe::kRne && matrix.dtype == DType::kBF16 && has_bf16_squares(global_scale)) {
    scratch.codes.resize(static_cast<std::size_t>(std::min(blocks, kPieceBlocks) * kNvfp4BlockBytes));
    for (std::int64_t done = 0; done < blocks; done += kPieceBlocks) {
      const std::int64_t piece = std::min(kPieceBlocks, blocks - done);
      const auto at = static_cast<std::size_t>(done);
      quantize_rne_bf16(matrix.view.data + done * kNvfp4Block * 2, piece, &scanned.block_amax[at], global_scale,
                        scratch.codes.data(), &scratch.sf[at], &error);
      writer.append(names.codes,
                    std::as_bytes(std::span(scratch.codes)).first(static_cast<std::size_t>(piece * kNvfp4BlockBytes)));
    }
  } else {
    scratch.codes.resize(static_cast<std::size_t>(blocks * kNvfp4BlockBytes));
    float scale_out = 0.0f;
    quantize_nvfp4(matrix.weight->view,
                   {.recipe = recipe, .mode = GlobalScaleMode::kStatic, .static_global_scale = global_scale},
                   {.codes = scratch.codes, .sf = scratch.sf, .global_scales = std::span(&scale_out, 1)});
    measure_matrix(matrix, scratch.codes, scratch.sf, global_scale, scratch, error);
    writer.append(names.codes, std::as_bytes(std::span(scratch.codes)));
  }
  writer.append(names.sf, std::as_bytes(std::span(scratch.sf)));
}

}  // namespace megamoe
