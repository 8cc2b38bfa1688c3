// What stage 5 left, for tests and for megamoe verify: Intermediate on the host.
#include <algorithm>
#include <vector>

#include "backends/cuda/sm90/workspace.h"
#include "base/cuda_check.h"
#include "megamoe/buffer.h"
#include "megamoe/formats/nvfp4.h"

namespace megamoe::sm90 {

// Codes and scales are not kept by run: they are made once more, from the same rows.
void Sm90Plan::hand_out(const RunArgs& args, const Workspace& space) const {
  const Problem& problem = weights_->problem();
  Intermediate& out = *args.intermediate;
  out.y_is_bf16 = rounds(args.tokens, routed_choice(args.tokens));
  cuda_check(cudaStreamSynchronize(static_cast<cudaStream_t>(args.stream)), "intermediate");
  const auto fetch = [](auto& to, const void* from, std::int64_t count) {
    to.resize(static_cast<std::size_t>(count));
    cuda_check(cudaMemcpy(to.data(), from, to.size() * sizeof(to[0]), cudaMemcpyDeviceToHost), "intermediate");
  };
  std::vector<std::int32_t> numbers;
  fetch(numbers, space.order.row_begin, problem.experts + 1);
  out.row_begin.assign(numbers.begin(), numbers.end());
  fetch(numbers, space.order.row_of, args.tokens * problem.top_k);
  out.row_of.assign(numbers.begin(), numbers.end());

  const auto fetch_tiles = [&](const Rows& rows, const Choice& choice, std::int64_t inter, std::int64_t count,
                               std::vector<std::uint16_t>& to) {
    std::vector<std::int32_t> tile_counts;
    fetch(tile_counts, rows.tile_counts.data(), cuda::kTileLists);
    std::vector<cuda::TokenTile> tiles, of_list;
    for (std::size_t i = 0; i < rows.tiles.size(); ++i) {
      if (choice.kernels[i] == nullptr) continue;
      fetch(of_list, rows.tiles[i].data(), tile_counts[i]);
      tiles.insert(tiles.end(), of_list.begin(), of_list.end());
    }
    to.resize(static_cast<std::size_t>(count * inter));
    std::vector<std::uint16_t> block;
    for (const cuda::TokenTile& tile : tiles) {
      const std::int64_t columns = cuda::tiled_columns(tile.rows);
      const std::int64_t k = cuda::tiled_k(inter);
      fetch(block, rows.h_tiles.data() + cuda::tiled_begin(tile) * k, columns * k);
      for (std::int64_t c = 0; c < tile.rows; ++c)
        for (std::int64_t j = 0; j < inter; ++j)
          to[static_cast<std::size_t>((tile.row + c) * inter + j)] =
              block[static_cast<std::size_t>(cuda::tiled_at(columns, c, j))];
    }
  };
  const auto fetch_rows = [&](const Rows& rows, const ExpertBank& bank, ActivationFormat format, std::int64_t count,
                              bool routed, Intermediate::Rows& to) {
    to = {.format = format, .rows = count, .inter = bank.inter()};
    if (format == ActivationFormat::kBf16) {
      const Choice choice = routed ? routed_choice(args.tokens) : shared_choice(args.tokens);
      if (!choice.usual().streams) return fetch_tiles(rows, choice, bank.inter(), count, to.bf16);
      return fetch(to.bf16, rows.h_bf16.data(), count * bank.inter());
    }
    Buffer codes(MemoryKind::kCuda, static_cast<std::size_t>(std::max<std::int64_t>(count, 1) * bank.inter() / 2));
    Buffer sf(MemoryKind::kCuda,
              static_cast<std::size_t>(std::max<std::int64_t>(count, 1) * bank.inter() / kNvfp4Block));
    cuda::QuantizeRows call{.from_f32 = rows.h_f32.data(),
                            .cols = bank.inter(),
                            .max_rows = count,
                            .codes = codes.as<std::uint8_t>().data(),
                            .sf = sf.as<std::uint8_t>().data()};
    if (problem.activation_scale == ActivationScale::kStatic) {
      call.static_scale = bank.input_scale(GemmKind::kDown);
      if (routed) {
        call.row_begin = space.order.row_begin;
        call.experts = problem.experts;
      }
    }
    cuda::quantize_rows(call, multiprocessors_, static_cast<cudaStream_t>(args.stream));
    cuda_check(cudaStreamSynchronize(static_cast<cudaStream_t>(args.stream)), "intermediate");
    fetch(to.codes, codes.data(), count * bank.inter() / 2);
    fetch(to.sf, sf.data(), count * bank.inter() / kNvfp4Block);
    fetch(to.global_scale, rows.h.scale.data(), count);
  };
  fetch_rows(space.routed, weights_->routed(), problem.activations, out.row_begin.back(), true, out.routed);
  out.shared = {};
  if (problem.shared.inter != 0)
    fetch_rows(space.shared, weights_->shared(), shared_activations(problem), args.tokens, false, out.shared);
}

}  // namespace megamoe::sm90
