#include <gtest/gtest.h>

#include <vector>

#include "megamoe/error.h"
#include "megamoe/layout.h"

namespace megamoe {
namespace {

TEST(k_major, every_cell_moves_to_its_column_of_its_expert) {
  const std::int64_t experts = 2;
  for (const std::int64_t k_cells : {1, 63, 64, 65, 130})
    for (const std::int64_t n : {1, 64, 97}) {
      std::vector<std::uint8_t> in(static_cast<std::size_t>(experts * k_cells * n));
      for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<std::uint8_t>(i * 31 + i / 251);
      std::vector<std::uint8_t> out(in.size());
      k_major_from_n_major(in, experts, k_cells, n, out);
      for (std::int64_t e = 0; e < experts; ++e)
        for (std::int64_t i = 0; i < k_cells; ++i)
          for (std::int64_t j = 0; j < n; ++j)
            ASSERT_EQ(out[static_cast<std::size_t>((e * n + j) * k_cells + i)],
                      in[static_cast<std::size_t>((e * k_cells + i) * n + j)]);
      std::vector<std::uint8_t> back(in.size());
      k_major_from_n_major(out, experts, n, k_cells, back);
      ASSERT_EQ(back, in);
    }
}

TEST(k_major, refuses_sizes_that_do_not_fit) {
  const std::vector<std::uint8_t> in(24);
  std::vector<std::uint8_t> out(23);
  EXPECT_THROW(k_major_from_n_major(in, 2, 3, 4, out), Error);
  EXPECT_THROW(k_major_from_n_major(out, 2, 3, 4, out), Error);
}

}  // namespace
}  // namespace megamoe
