// Whole tensors to NVFP4 and back: checks, global scales, and the walk over rows or over columns of blocks.
#include <algorithm>
#include <array>
#include <cmath>

#include "megamoe/error.h"
#include "megamoe/formats/bf16.h"
#include "megamoe/formats/nvfp4.h"
#include "megamoe/quant.h"
#include "quant/rne_bf16.h"
#include "quant/rne_row.h"
#include "quant/row_reader.h"

namespace megamoe {
namespace {

// Floats converted at a time: stays in the first-level cache, and is a multiple of a block.
constexpr std::int64_t kChunk = 1024;
// Columns of a (K, N) weight quantised together, so that its rows are read in whole cache lines.
constexpr std::int64_t kColumns = kChunk / kNvfp4Block;
// Blocks that are looked at in ascending order: 1 MiB of BF16. In less, the processor does not read ahead as well.
constexpr std::int64_t kScanBlocks = (1 << 20) / (2 * kNvfp4Block);

void require_size(std::string_view what, std::size_t found, std::int64_t expected) {
  if (static_cast<std::int64_t>(found) != expected)
    throw Error(Code::kInvalidArgument, "quantize: ", what, " has ", found, " elements, expected ", expected);
}

void require_multiple_of_block(std::int64_t k) {
  if (k % kNvfp4Block != 0)
    throw Error(Code::kInvalidArgument, "quantize: K is ", k, ", accepted: multiples of ", kNvfp4Block);
}

void check(const ConstTensorView& source, const Nvfp4Options& options, const Nvfp4Output& out, std::int64_t k,
           std::int64_t global_scales) {
  require_float_source("quantize", source.dtype);
  require_multiple_of_block(k);
  const float given = options.static_global_scale;
  if (options.mode == GlobalScaleMode::kStatic && !(given > 0 && std::isfinite(given)))
    throw Error(Code::kInvalidArgument, "quantize: static global scale is ", given, ", accepted: finite and above 0");
  require_size("codes", out.codes.size(), source.shape.elements() / 2);
  require_size("sf", out.sf.size(), source.shape.elements() / kNvfp4Block);
  require_size("global_scales", out.global_scales.size(), global_scales);
}

const std::byte* at_element(const ConstTensorView& source, std::int64_t element) {
  return static_cast<const std::byte*>(source.data) + element * dtype_bits(source.dtype) / 8;
}

float amax_of(QuantRecipe recipe, const ConstTensorView& source, std::int64_t first, std::int64_t count) {
  if (source.dtype == DType::kBF16)
    return bf16_to_float(bf16_amax_bits(at_element(source, first), count, recipe != QuantRecipe::kBridge));
  std::array<float, kChunk> chunk;
  float amax = 0;
  for (std::int64_t done = 0; done < count; done += kChunk) {
    const std::int64_t n = std::min(kChunk, count - done);
    read_floats(source.data, source.dtype, first + done, n, chunk.data());
    const float here = nvfp4_amax(recipe, {chunk.data(), static_cast<std::size_t>(n)});
    if (!(here <= amax)) amax = here;  // a NaN replaces any number
    if (std::isnan(amax)) break;       // and nothing replaces it
  }
  return amax;
}

// The one global scale of a tensor.
float global_scale_of(const ConstTensorView& source, const Nvfp4Options& options) {
  if (options.mode == GlobalScaleMode::kStatic) return options.static_global_scale;
  return nvfp4_global_scale(options.recipe, nvfp4_amax(options.recipe, source));
}

void quantize_row(QuantRecipe recipe, std::span<const float> row, float global_scale, std::uint8_t* codes,
                  std::uint8_t* sf) {
  if (recipe == QuantRecipe::kRne && global_scale > 0)
    quantize_rne_row(row, global_scale, codes, sf);
  else
    quantize_nvfp4_row(recipe, row, global_scale, codes, sf);
}

// Recipe rne of BF16 under one global scale, which does not ask where a row ends.
void quantize_by_vectors(const ConstTensorView& source, const Nvfp4Options& options, const Nvfp4Output& out) {
  const std::int64_t blocks = source.shape.elements() / kNvfp4Block;
  std::vector<std::uint16_t> block_amax(static_cast<std::size_t>(blocks));
  // The last pieces first, since what the caches still have then is what codes begin with.
  std::uint16_t amax_bits = 0;
  for (std::int64_t end = blocks; end > 0;) {
    const std::int64_t begin = std::max(std::int64_t{0}, end - kScanBlocks);
    amax_bits =
        std::max(amax_bits, scan_bf16(at_element(source, begin * kNvfp4Block), end - begin, &block_amax[begin]));
    end = begin;
  }
  const float amax = bf16_to_float(amax_bits);
  float& global_scale = out.global_scales[0];
  if (options.mode == GlobalScaleMode::kStatic)
    global_scale = options.static_global_scale;
  else
    global_scale = nvfp4_global_scale(
        options.recipe, std::isnan(amax) ? nvfp4_amax(options.recipe, source) : amax);  // NaN: that of the others
  quantize_rne_bf16(source.data, blocks, block_amax.data(), global_scale, out.codes.data(), out.sf.data(), nullptr);
}

struct RowShape {
  std::int64_t rows;
  std::int64_t k;
};

RowShape row_shape(const ConstTensorView& source) {
  const int rank = source.shape.rank();
  if (rank == 0) throw Error(Code::kInvalidArgument, "quantize: found a scalar, accepted: [..., K]");
  const std::int64_t k = source.shape[rank - 1];
  return {k == 0 ? 0 : source.shape.elements() / k, k};
}

void require_matrix(const ConstTensorView& source) {
  if (source.shape.rank() != 2)
    throw Error(Code::kInvalidArgument, "quantize along K: found shape ", source.shape.to_string(),
                ", accepted: [K, N]");
}

Nvfp4Tensor allocate(const ConstTensorView& source, std::int64_t global_scales) {
  Nvfp4Tensor tensor;
  tensor.codes.resize(static_cast<std::size_t>(source.shape.elements() / 2));
  tensor.sf.resize(static_cast<std::size_t>(source.shape.elements() / kNvfp4Block));
  tensor.global_scales.resize(static_cast<std::size_t>(global_scales));
  return tensor;
}

}  // namespace

float nvfp4_amax(QuantRecipe recipe, const ConstTensorView& source) {
  require_float_source("amax", source.dtype);
  return amax_of(recipe, source, 0, source.shape.elements());
}

void quantize_nvfp4(const ConstTensorView& source, const Nvfp4Options& options, const Nvfp4Output& out) {
  const auto [rows, k] = row_shape(source);
  const bool per_token = options.mode == GlobalScaleMode::kPerToken;
  check(source, options, out, k, per_token ? rows : 1);
  if (!per_token && options.recipe == QuantRecipe::kRne && source.dtype == DType::kBF16)
    return quantize_by_vectors(source, options, out);
  if (!per_token) out.global_scales[0] = global_scale_of(source, options);

  std::array<float, kChunk> chunk;
  for (std::int64_t row = 0; row < rows; ++row) {
    if (per_token)
      out.global_scales[row] = nvfp4_global_scale(options.recipe, amax_of(options.recipe, source, row * k, k));
    const float global_scale = out.global_scales[per_token ? row : 0];
    for (std::int64_t done = 0; done < k; done += kChunk) {
      const std::int64_t n = std::min(kChunk, k - done);
      const std::int64_t at = row * k + done;
      read_floats(source.data, source.dtype, at, n, chunk.data());
      quantize_row(options.recipe, {chunk.data(), static_cast<std::size_t>(n)}, global_scale, out.codes.data() + at / 2,
                   out.sf.data() + at / kNvfp4Block);
    }
  }
}

Nvfp4Tensor quantize_nvfp4(const ConstTensorView& source, const Nvfp4Options& options) {
  const RowShape shape = row_shape(source);
  Nvfp4Tensor tensor = allocate(source, options.mode == GlobalScaleMode::kPerToken ? shape.rows : 1);
  quantize_nvfp4(source, options, {tensor.codes, tensor.sf, tensor.global_scales});
  return tensor;
}

void quantize_nvfp4_along_k(const ConstTensorView& source, const Nvfp4Options& options, const Nvfp4Output& out) {
  require_matrix(source);
  if (options.mode == GlobalScaleMode::kPerToken)
    throw Error(Code::kInvalidArgument,
                "quantize along K: asked a global scale per token, accepted: per tensor, static");
  const std::int64_t k = source.shape[0];
  const std::int64_t n = source.shape[1];
  check(source, options, out, k, 1);
  const float global_scale = out.global_scales[0] = global_scale_of(source, options);

  std::array<float, kColumns> row;
  std::array<float, kChunk> columns;  // [kColumns, 16]: the blocks, each contiguous
  std::array<std::uint8_t, kChunk / 2> codes;
  std::array<std::uint8_t, kColumns> sf;
  for (std::int64_t block = 0; block < k / kNvfp4Block; ++block)
    for (std::int64_t first = 0; first < n; first += kColumns) {
      const std::int64_t width = std::min(kColumns, n - first);
      for (int i = 0; i < kNvfp4Block; ++i) {
        read_floats(source.data, source.dtype, (block * kNvfp4Block + i) * n + first, width, row.data());
        for (std::int64_t c = 0; c < width; ++c) columns[c * kNvfp4Block + i] = row[c];
      }
      quantize_nvfp4_row(options.recipe, {columns.data(), static_cast<std::size_t>(width * kNvfp4Block)}, global_scale,
                         codes.data(), sf.data());
      for (int i = 0; i < kNvfp4BlockBytes; ++i)
        for (std::int64_t c = 0; c < width; ++c)
          out.codes[(block * kNvfp4BlockBytes + i) * n + first + c] = codes[c * kNvfp4BlockBytes + i];
      std::copy_n(sf.begin(), width, out.sf.begin() + block * n + first);
    }
}

Nvfp4Tensor quantize_nvfp4_along_k(const ConstTensorView& source, const Nvfp4Options& options) {
  require_matrix(source);
  Nvfp4Tensor tensor = allocate(source, 1);
  quantize_nvfp4_along_k(source, options, {tensor.codes, tensor.sf, tensor.global_scales});
  return tensor;
}

void dequantize_nvfp4(std::span<const std::uint8_t> codes, std::span<const std::uint8_t> sf,
                      std::span<const float> global_scales, std::int64_t rows, std::int64_t k,
                      std::span<float> values) {
  require_multiple_of_block(k);
  require_size("codes", codes.size(), rows * k / 2);
  require_size("sf", sf.size(), rows * k / kNvfp4Block);
  require_size("values", values.size(), rows * k);
  if (global_scales.size() != 1) require_size("global_scales", global_scales.size(), rows);
  for (std::int64_t row = 0; row < rows; ++row)
    dequantize_nvfp4_row(codes.data() + row * k / 2, sf.data() + row * k / kNvfp4Block,
                         global_scales[global_scales.size() == 1 ? 0 : row],
                         values.subspan(static_cast<std::size_t>(row * k), static_cast<std::size_t>(k)));
}

}  // namespace megamoe
