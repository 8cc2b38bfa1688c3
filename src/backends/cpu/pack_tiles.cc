#include "backends/cpu/pack_tiles.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "backends/cpu/packed_layout.h"
#include "hwy/cache_control.h"
#include "megamoe/error.h"

namespace megamoe::cpu {
namespace {

// Rows are packed in pieces of 512 elements, so that both sides of a piece stay in the L1 cache: 8 KiB of 32 rows, 9
// KiB of tiles.
constexpr std::int64_t kPieceTiles = 8;
constexpr std::int64_t kTileBlocks = kTileK / 16;

constexpr std::uint8_t kInvalid = 0xFF;

// UE5M3 of each E4M3 byte; what no weight may have is kInvalid. Zero is stored as zero, beside zero codes.
constexpr auto kScales = [] {
  std::array<std::uint8_t, 256> all{};
  for (int sf = 1; sf < 256; ++sf)
    all[static_cast<std::size_t>(sf)] = sf > 0x7E ? kInvalid : ue5m3_from_e4m3(static_cast<std::uint8_t>(sf));
  return all;
}();
static_assert(kScales[0x7E] != kInvalid);

[[noreturn]] void refuse_scale(int sf, std::int64_t row, std::int64_t element) {
  throw Error(Code::kInvalidArgument, "weights: block scale byte ", sf, " at row ", row, ", element ", element,
              " is negative or NaN, accepted: 0x00 to 0x7E");
}

// The lanes' codes of one block.
void clear_block(std::byte* tile, std::int64_t lane, std::int64_t block) {
  std::byte* words = tile + kTileScales + 256 * block + 4 * lane;
  std::memset(words, 0, 4);
  std::memset(words + 128, 0, 4);
}

// A block whose scale is zero gets zero codes; what is no scale is refused.
void look_at_block(const MatrixView& matrix, const LaneRows& which, std::int64_t r, std::int64_t block,
                   std::byte* panel) {
  const int sf = std::to_integer<int>(matrix.sf[r * (matrix.cols / 16) + block]);
  if (sf > 0x7E) refuse_scale(sf, which.first_row + r, 16 * block);
  if (sf == 0) clear_block(panel + block / kTileBlocks * kTileBytes, which.first_lane + r, block % kTileBlocks);
}

// Scales of `count` blocks from a tile on, one by one.
void pack_scales_one_by_one(const MatrixView& matrix, const LaneRows& which, std::int64_t tile, std::int64_t count,
                            std::byte* panel) {
  const std::int64_t first = tile * kTileBlocks;
  for (std::int64_t r = 0; r < which.rows; ++r) {
    const auto* sf = reinterpret_cast<const std::uint8_t*>(matrix.sf + r * (matrix.cols / 16) + first);
    std::byte* to = panel + tile * kTileBytes + which.first_lane + r;
    unsigned strange = 0;  // some scale is zero or none at all
    for (std::int64_t b = 0; b < count; ++b) {
      const std::uint8_t scale = kScales[sf[b]];
      strange |= static_cast<unsigned>(static_cast<std::uint8_t>(scale + 1) < 2);
      to[b / kTileBlocks * kTileBytes + b % kTileBlocks * kLanes] = std::byte{scale};
    }
    if (strange == 0) continue;
    for (std::int64_t b = 0; b < count; ++b) look_at_block(matrix, which, r, first + b, panel);
  }
}

// Elements from `k` on, less than a tile of them, and zeros for the rest of the tile.
void pack_last_tile(const Kernels& kernels, const MatrixView& matrix, const LaneRows& which, std::int64_t k,
                    std::byte* panel) {
  std::byte padded[kLanes * kTileK / 2] = {};
  for (std::int64_t r = 0; r < which.rows; ++r)
    std::memcpy(padded + r * kTileK / 2, matrix.data + (r * matrix.cols + k) / 2,
                static_cast<std::size_t>((matrix.cols - k) / 2));
  std::byte* tile = panel + k / kTileK * kTileBytes;
  kernels.pack_words(padded, kTileK / 2, which.rows, 1, tile + kTileScales + 4 * which.first_lane);
  pack_scales_one_by_one(matrix, which, k / kTileK, (matrix.cols - k) / 16, panel);
  for (std::int64_t b = matrix.cols / 16; b < tiles_of(matrix.cols) * kTileBlocks; ++b)
    std::fill_n(tile + kLanes * (b % kTileBlocks) + which.first_lane, which.rows, std::byte{0});
}

// The rows of `which` as a matrix of their own, copied to `buffer` where they fit. Rows of a matrix follow one another,
// so that is one run of lines, which memory gives at the rate of a copy; packing reads a few lines of each row in turn,
// and from memory that took 24 ms of a layer's 170 MB where this takes 20 (Zen 4, 2 threads; asking for lines ahead:
// 24).
constexpr std::size_t kBufferBytes = 72 << 10;

MatrixView copy_of_rows(const MatrixView& matrix, const LaneRows& which, std::byte* buffer) {
  const std::int64_t code_bytes = matrix.cols / 2, sf_bytes = matrix.cols / 16;
  MatrixView rows = matrix;
  rows.rows = which.rows;
  rows.data += which.first_row * code_bytes;
  rows.sf += which.first_row * sf_bytes;
  const auto codes = static_cast<std::size_t>(which.rows * code_bytes);
  const auto sf = static_cast<std::size_t>(which.rows * sf_bytes);
  if (codes + sf > kBufferBytes) return rows;
  std::memcpy(buffer, rows.data, codes);
  std::memcpy(buffer + codes, rows.sf, sf);
  rows.data = buffer;
  rows.sf = buffer + codes;
  return rows;
}

// `matrix` holds the rows of `which` and nothing else.
void pack_rows_from(const Kernels& kernels, const MatrixView& matrix, const LaneRows& which, std::byte* panel) {
  const std::int64_t whole_tiles = matrix.cols / kTileK;
  for (std::int64_t tile = 0; tile < whole_tiles; tile += kPieceTiles) {
    const std::int64_t tiles = std::min(kPieceTiles, whole_tiles - tile);
    kernels.pack_words(matrix.data + tile * kTileK / 2, matrix.cols / 2, which.rows, tiles,
                       panel + tile * kTileBytes + kTileScales + 4 * which.first_lane);
    const std::byte* sf = matrix.sf + tile * kTileBlocks;
    if (tiles % 4 != 0 ||
        !kernels.pack_scales(sf, matrix.cols / 16, which.rows, tiles, panel + tile * kTileBytes + which.first_lane))
      pack_scales_one_by_one(matrix, which, tile, tiles * kTileBlocks, panel);
  }
  if (whole_tiles < tiles_of(matrix.cols)) pack_last_tile(kernels, matrix, which, whole_tiles * kTileK, panel);
}

}  // namespace

void pack_nvfp4_rows(const Kernels& kernels, const MatrixView& matrix, const LaneRows& which, std::byte* panel) {
  alignas(64) std::byte buffer[kBufferBytes];  // nothing clears it
  pack_rows_from(kernels, copy_of_rows(matrix, which, buffer), which, panel);
  hwy::FlushStream();  // pack_words may write past the caches
}

}  // namespace megamoe::cpu
