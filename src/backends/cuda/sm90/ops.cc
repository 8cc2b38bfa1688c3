// The GEMMs alone (megamoe/cuda_ops.h): rows come ordered, so that offsets take the place of routing.
#include <algorithm>
#include <string>

#include "backends/cuda/common/stages.h"
#include "backends/cuda/sm90/choose.h"
#include "backends/cuda/sm90/gemm.h"
#include "backends/cuda/sm90/pack_kernel.h"
#include "backends/cuda/sm90/packer.h"
#include "backends/cuda/sm90/sm90.h"
#include "base/arena.h"
#include "base/cuda_check.h"
#include "megamoe/cuda_ops.h"
#include "megamoe/error.h"

namespace megamoe {
namespace {

using namespace sm90;

constexpr std::int64_t kMostRows = std::int64_t{1} << 30;
constexpr std::int64_t kMostElements = std::int64_t{1} << 35;  // 64 GiB of x

void check_size(std::string_view what, std::int64_t asked, std::int64_t step, std::int64_t most) {
  if (asked < step || asked > most || asked % step != 0)
    throw Error(Code::kInvalidArgument, "grouped GEMM: ", what, ": asked ", asked, ", accepted: multiples of ", step,
                " from ", step, " to ", most);
}

void check_shape(const GroupedShape& shape) {
  check_size("experts", shape.experts, 1, 1 << 16);
  check_size("n", shape.n, 16, 1 << 21);
  check_size("k", shape.k, 16, 1 << 20);
}

void check_rows(std::int64_t rows) {
  if (rows < 0 || rows > kMostRows)
    throw Error(Code::kInvalidArgument, "grouped GEMM: rows: asked ", rows, ", accepted: 0 to ", kMostRows);
}

void check_given(bool is_given, std::string_view what) {
  if (!is_given) throw Error(Code::kInvalidArgument, "grouped GEMM: ", what, ": asked null, accepted: device memory");
}

void check_pack(const MatrixView& matrix, const std::byte* packed) {
  if (matrix.format != WeightFormat::kNvfp4)
    throw Error(Code::kUnsupported, "pack: asked ", name(matrix.format), " weights, accepted: nvfp4");
  check_size("rows of a matrix", matrix.rows, 16, 1 << 21);
  check_size("columns of a matrix", matrix.cols, 16, 1 << 20);
  check_given(matrix.data != nullptr && matrix.sf != nullptr && packed != nullptr, "codes, scales and packed weights");
}

// Whichever kernel of a loop a call of so many rows or fewer takes.
std::int64_t most_tiles(const GroupedShape& shape, std::int64_t rows, bool streams) {
  std::int64_t least = kMostRows;
  for (const Kernel& kernel : kernels())
    if (kernel.streams == streams) least = std::min<std::int64_t>(least, kernel.max_rows);
  return cuda::most_tiles(rows, shape.experts, least);
}

// Nothing is known of the offsets: rows fall on experts as at random.
GemmSizes sizes_of(const GroupedShape& shape, std::int64_t rows, bool fused) {
  return {.weights = WeightFormat::kNvfp4,
          .hidden = fused ? shape.k : shape.n,
          .inter = fused ? shape.n / 2 : shape.k,
          .rows = rows,
          .active = expected_active(shape.experts, 1, rows)};
}

constexpr std::int64_t kLaunchClaims = 3;  // of items, and two of what is gathered
constexpr std::int64_t kClaims = cuda::kTileLists * kLaunchClaims;

struct Workspace {
  std::span<std::int32_t> counters;  // claims; then what is ready
  std::span<std::int32_t> row_begin, tile_counts;
  TokenTiles tiles;
  std::span<std::uint16_t> values;  // of NVFP4 activations
  std::span<float> scale;
  std::span<std::uint16_t> x_tiles;  // RowGather::to

  Workspace(Carver& carver, const GroupedShape& shape, std::int64_t rows, bool decodes, int multiprocessors)
      : counters(carver.take<std::int32_t>(kClaims + most_tiles(shape, rows, false) * gather_chunks(shape.k))),
        row_begin(carver.take<std::int32_t>(shape.experts + 1)),
        tile_counts(carver.take<std::int32_t>(cuda::kTileLists)),
        values(carver.take<std::uint16_t>(decodes ? rows * shape.k : 0)),
        scale(carver.take<float>(decodes ? rows : 0)),
        x_tiles(carver.take<std::uint16_t>(most_gathered(sizes_of(shape, rows, false), true, panels_of(shape.n),
                                                         shape.k, shape.experts, multiprocessors))) {
    for (auto& of_list : tiles)
      of_list = carver.take<cuda::TokenTile>(std::max(most_tiles(shape, rows, true), most_tiles(shape, rows, false)));
  }
};

std::size_t count_workspace(const GroupedShape& shape, std::int64_t rows, bool decodes, int multiprocessors) {
  Carver count{std::span<std::byte>()};
  Workspace(count, shape, rows, decodes, multiprocessors);
  return count.bytes();
}

void check_call(const GroupedGemm& call, GemmKind kind, int multiprocessors) {
  check_shape(call.shape);
  if (kind == GemmKind::kGateUp) check_size("n of gate and up", call.shape.n, 32, 1 << 21);
  check_rows(call.rows);
  if ((call.x != nullptr) == (call.x_codes != nullptr))
    throw Error(Code::kInvalidArgument, "grouped GEMM: asked ", call.x == nullptr ? "neither" : "both",
                " of x and x_codes, accepted: one");
  check_given(call.x_codes == nullptr || call.x_sf != nullptr, "x_sf");
  // The gathering warps count a row's place in 32 bits, of 16 bytes each.
  if (call.rows * call.shape.k > kMostElements)
    throw Error(Code::kInvalidArgument, "grouped GEMM: rows * k: asked ", call.rows, " * ", call.shape.k,
                ", accepted: up to ", kMostElements);
  check_given(call.packed != nullptr, "packed");
  check_given(call.global_scale != nullptr, "global_scale");
  check_given(call.expert_offsets != nullptr, "expert_offsets");
  check_given(call.output != nullptr, "output");
  const std::size_t needed = count_workspace(call.shape, call.rows, call.x == nullptr, multiprocessors);
  if (call.workspace.size() < needed)
    throw Error(Code::kInvalidArgument, "workspace: the call needs ", needed, " bytes, got ", call.workspace.size());
}

void run(const GroupedGemm& call, GemmKind kind, const Activation& activation, int multiprocessors) {
  check_call(call, kind, multiprocessors);
  if (call.rows == 0) return;
  auto* const stream = static_cast<cudaStream_t>(call.stream);
  const GroupedShape& shape = call.shape;
  const bool fused = kind == GemmKind::kGateUp;
  const bool decodes = call.x == nullptr;
  Carver carver(call.workspace);
  const Workspace space(carver, shape, call.rows, decodes, multiprocessors);

  const Choice choice = choose(sizes_of(shape, call.rows, fused));
  const cuda::TileLists tiles = tile_lists(choice, space.tiles, space.tile_counts.data(), call.rows, shape.experts);
  cuda::take_offsets({.expert_offsets = call.expert_offsets,
                      .experts = shape.experts,
                      .rows = call.rows,
                      .tiles = tiles,
                      .row_begin = space.row_begin.data(),
                      .counters = space.counters.data(),
                      .counter_count = static_cast<std::int64_t>(space.counters.size())},
                     stream);
  if (decodes)
    cuda::decode_rows({.codes = call.x_codes,
                       .sf = call.x_sf,
                       .rows = call.rows,
                       .cols = shape.k,
                       .expert_scale = call.x_global_scale,
                       .row_begin = space.row_begin.data(),
                       .experts = shape.experts,
                       .values = space.values.data(),
                       .global_scale = space.scale.data()},
                      stream);

  Gemm gemm{.weights = {.packed = call.packed,
                        .expert_bytes = matrix_bytes(WeightFormat::kNvfp4, shape.n, shape.k),
                        .panels = static_cast<std::int32_t>(panels_of(shape.n)),
                        .channels = static_cast<std::int32_t>(fused ? shape.n / 2 : shape.n),
                        .k = static_cast<std::int32_t>(shape.k)},
            .x = decodes ? space.values.data() : call.x,
            .x_scale = decodes ? space.scale.data() : nullptr,
            .tiles_are_ready = decodes,
            .claims = space.counters.data(),
            .activation = activation};
  if (!choice.usual().streams) {
    gemm.gather = {.from = gemm.x,
                   .to = space.x_tiles.data(),
                   .claims = space.counters.data() + 1,
                   .ready = space.counters.data() + kClaims};
  }
  gemm.weights.scale[0] = call.global_scale;
  gemm.weights.scale[1] = call.up_global_scale == nullptr ? call.global_scale : call.up_global_scale;
  (fused ? gemm.h_bf16 : gemm.y_bf16) = call.output;
  launch(choice.kernels, tiles, kind, gemm, kLaunchClaims, multiprocessors, stream);
}

void pack_matrices(const MatrixView& matrix, const MatrixView* up, MemoryKind where, std::byte* packed, void* stream) {
  if (where == MemoryKind::kCuda) {
    CanonicalRows rows{.rows = matrix.rows, .k = matrix.cols, .pairs = up != nullptr};
    rows.data[0] = matrix.data;
    rows.sf[0] = matrix.sf;
    if (up != nullptr) {
      rows.data[1] = up->data;
      rows.sf[1] = up->sf;
    }
    return pack_on_device(WeightFormat::kNvfp4, rows, packed, static_cast<cudaStream_t>(stream));
  }
  check_scales(up != nullptr ? "the gate" : "the matrix", matrix);
  if (up != nullptr) check_scales("the up matrix", *up);
  Buffer staging(MemoryKind::kCuda,
                 (up != nullptr ? 2 : 1) * canonical_bytes(WeightFormat::kNvfp4, matrix.rows * matrix.cols));
  Packer(staging).pack(matrix, up, packed);
  cuda_check(cudaDeviceSynchronize(), "packing weights");
}

}  // namespace

CudaOps::CudaOps() {
  if (const std::string reason = sm90_backend().absence(); !reason.empty())
    throw Error(Code::kUnsupported, "CUDA operations: ", reason);
  int device = 0;
  cuda_check(cudaGetDevice(&device), "CUDA operations");
  cuda_check(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device), "CUDA operations");
  allow_shared_memory();
}

std::size_t CudaOps::packed_bytes(const GroupedShape& shape) const {
  check_shape(shape);
  return static_cast<std::size_t>(matrix_bytes(WeightFormat::kNvfp4, shape.n, shape.k));
}

void CudaOps::pack(const MatrixView& matrix, MemoryKind where, std::byte* packed, void* stream) const {
  check_pack(matrix, packed);
  pack_matrices(matrix, nullptr, where, packed, stream);
}

void CudaOps::pack_gate_up(const MatrixView& gate, const MatrixView& up, MemoryKind where, std::byte* packed,
                           void* stream) const {
  check_pack(gate, packed);
  check_pack(up, packed);
  if (gate.rows != up.rows || gate.cols != up.cols)
    throw Error(Code::kInvalidArgument, "pack: asked a gate [", gate.rows, ", ", gate.cols, "] and an up [", up.rows,
                ", ", up.cols, "], accepted: equal shapes");
  pack_matrices(gate, &up, where, packed, stream);
}

std::size_t CudaOps::workspace_bytes(const GroupedShape& shape, std::int64_t max_rows, ActivationFormat x) const {
  check_shape(shape);
  check_rows(max_rows);
  if (x == ActivationFormat::kInt8)
    throw Error(Code::kUnsupported, "grouped GEMM: asked ", name(x), " activations, accepted: bf16, nvfp4");
  return count_workspace(shape, max_rows, x == ActivationFormat::kNvfp4, multiprocessors_);
}

void CudaOps::grouped_gemm(const GroupedGemm& call) const { run(call, GemmKind::kDown, {}, multiprocessors_); }

void CudaOps::grouped_swiglu(const GroupedGemm& call, const Activation& activation) const {
  run(call, GemmKind::kGateUp, activation, multiprocessors_);
}

void CudaOps::deinterleave_quantize(const DeinterleaveQuantize& call) const {
  if (call.rows == 0) return;
  check_size("inter", call.inter, 16, 1 << 20);
  check_size("granularity", call.granularity, 8, call.inter);
  check_given(call.fused != nullptr && call.codes != nullptr && call.sf != nullptr, "fused, codes and sf");
  cuda::quantize_rows({.from_bf16 = call.fused,
                       .deinterleave = call.granularity,
                       .cols = call.inter,
                       .max_rows = call.rows,
                       .recipe = call.bridge_recipe ? cuda::BlockRecipe::kBridge : cuda::BlockRecipe::kRne,
                       .static_scale = call.global_scale,
                       .codes = call.codes,
                       .sf = call.sf,
                       .global_scale = call.row_global_scale},
                      multiprocessors_, static_cast<cudaStream_t>(call.stream));
}

}  // namespace megamoe
