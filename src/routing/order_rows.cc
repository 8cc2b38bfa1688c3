// A counting sort of choices by expert.
#include <algorithm>
#include <numeric>

#include "megamoe/error.h"
#include "megamoe/routing.h"
#include "routing/check.h"

namespace megamoe {
void order_rows(std::span<const std::int32_t> topk_ids, std::int64_t experts, std::span<std::int64_t> row_begin,
                std::span<std::int64_t> row_of, std::span<std::int64_t> choice_of) {
  if (experts < 0) throw Error(Code::kInvalidArgument, "experts: asked ", experts, ", accepted: at least 0");
  check_elements("row_begin", row_begin.size(), static_cast<std::size_t>(experts) + 1);
  check_elements("row_of", row_of.size(), topk_ids.size());
  check_elements("choice_of", choice_of.size(), topk_ids.size());
  for (std::size_t choice = 0; choice < topk_ids.size(); ++choice) {
    if (topk_ids[choice] < kPoisonedExpert || topk_ids[choice] >= experts) {
      throw Error(Code::kInvalidArgument, "topk_ids[", choice, "]: found ", topk_ids[choice],
                  ", accepted: ", kPoisonedExpert, " to ", experts - 1);
    }
  }

  // No memory beside the outputs: row_begin first counts, then is each expert's next free row, which ends up where the
  // next expert begins.
  std::fill(row_begin.begin(), row_begin.end(), 0);
  for (const std::int32_t expert : topk_ids) {
    if (expert >= 0) ++row_begin[static_cast<std::size_t>(expert)];
  }
  std::exclusive_scan(row_begin.begin(), row_begin.end(), row_begin.begin(), std::int64_t{0});
  for (std::size_t choice = 0; choice < topk_ids.size(); ++choice) {
    const std::int32_t expert = topk_ids[choice];
    row_of[choice] = -1;
    if (expert < 0) continue;
    const std::int64_t row = row_begin[static_cast<std::size_t>(expert)]++;
    row_of[choice] = row;
    choice_of[static_cast<std::size_t>(row)] = static_cast<std::int64_t>(choice);
  }
  std::copy_backward(row_begin.begin(), row_begin.end() - 1, row_begin.end());
  row_begin[0] = 0;
}

}  // namespace megamoe
