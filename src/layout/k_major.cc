#include <algorithm>

#include "layout/size_check.h"
#include "megamoe/layout.h"

namespace megamoe {

void k_major_from_n_major(std::span<const std::uint8_t> n_major, std::int64_t experts, std::int64_t k_cells,
                          std::int64_t n, std::span<std::uint8_t> k_major) {
  require_layout_bytes("N-major weight", n_major.size(), experts * k_cells * n);
  require_layout_bytes("K-major weight", k_major.size(), experts * k_cells * n);
  // Squares whose rows are cache lines on both sides: a plain double loop misses the cache on every write.
  constexpr std::int64_t kTile = 64;
  for (std::int64_t e = 0; e < experts; ++e) {
    const std::uint8_t* from = n_major.data() + e * k_cells * n;
    std::uint8_t* to = k_major.data() + e * k_cells * n;
    for (std::int64_t i0 = 0; i0 < k_cells; i0 += kTile)
      for (std::int64_t j0 = 0; j0 < n; j0 += kTile)
        for (std::int64_t j = j0; j < std::min(j0 + kTile, n); ++j)
          for (std::int64_t i = i0; i < std::min(i0 + kTile, k_cells); ++i) to[j * k_cells + i] = from[i * n + j];
  }
}

}  // namespace megamoe
