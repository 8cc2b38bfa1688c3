#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "megamoe/error.h"
#include "megamoe/routing.h"

namespace megamoe {
namespace {

using Rows = std::vector<std::int64_t>;

struct Order {
  Rows row_begin, row_of, choice_of;
};

Order order(const std::vector<std::int32_t>& ids, std::int64_t experts) {
  Order out{Rows(static_cast<std::size_t>(experts) + 1, -9), Rows(ids.size(), -9), Rows(ids.size(), -9)};
  order_rows(ids, experts, out.row_begin, out.row_of, out.choice_of);
  return out;
}

TEST(order_rows, by_expert_then_by_token) {
  const Order got = order({2, 0, 0, 2, 3, 2}, 4);
  EXPECT_EQ(got.row_begin, (Rows{0, 2, 2, 5, 6}));
  EXPECT_EQ(got.row_of, (Rows{2, 0, 1, 3, 5, 4}));
  EXPECT_EQ(got.choice_of, (Rows{1, 2, 0, 3, 5, 4}));
}

TEST(order_rows, dropped_and_poisoned_choices_have_no_row) {
  const Order got = order({1, kDroppedExpert, kPoisonedExpert, kPoisonedExpert, 0, 1}, 2);
  EXPECT_EQ(got.row_begin, (Rows{0, 1, 3}));
  EXPECT_EQ(got.row_of, (Rows{1, -1, -1, -1, 0, 2}));
  EXPECT_EQ(got.choice_of, (Rows{4, 0, 5, -9, -9, -9}));  // past the last row: untouched
}

TEST(order_rows, one_expert_twice_in_a_token_makes_two_rows) {
  const Order got = order({3, 3}, 4);
  EXPECT_EQ(got.row_begin, (Rows{0, 0, 0, 0, 2}));
  EXPECT_EQ(got.row_of, (Rows{0, 1}));
}

TEST(order_rows, nothing_in_nothing_out) {
  EXPECT_EQ(order({}, 3).row_begin, (Rows{0, 0, 0, 0}));
  EXPECT_EQ(order({}, 0).row_begin, (Rows{0}));
  EXPECT_EQ(order({-1, -1}, 0).row_begin, (Rows{0}));
}

TEST(order_rows, refuses_foreign_ids_and_writes_nothing) {
  for (const std::int32_t bad : {-3, 4, std::numeric_limits<std::int32_t>::min(), 1 << 30}) {
    const std::vector<std::int32_t> ids{0, bad};
    Rows row_begin(5, -9);
    Rows row_of(2, -9);
    Rows choice_of(2, -9);
    EXPECT_THROW(order_rows(ids, 4, row_begin, row_of, choice_of), Error) << bad;
    EXPECT_EQ(row_begin, Rows(5, -9));
    EXPECT_EQ(row_of, Rows(2, -9));
  }
  try {
    order({0, 4}, 4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "topk_ids[1]: found 4, accepted: -2 to 3");
  }
}

TEST(order_rows, refuses_sizes_that_do_not_fit) {
  const std::vector<std::int32_t> ids{0, 1};
  Rows a(3);
  Rows b(2);
  Rows c(2);
  EXPECT_NO_THROW(order_rows(ids, 2, a, b, c));
  EXPECT_THROW(order_rows(ids, 3, a, b, c), Error);
  EXPECT_THROW(order_rows(ids, 2, a, std::span(b).first(1), c), Error);
  EXPECT_THROW(order_rows(ids, 2, a, b, std::span(c).first(1)), Error);
}

}  // namespace
}  // namespace megamoe
