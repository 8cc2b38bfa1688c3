// What Plan::run asks of its arguments, in two parts: sizes, which the host knows, and ids, which may lie on a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "megamoe/moe.h"

namespace megamoe {

// Both throw kInvalidArgument.
void check_sizes(const Problem& problem, std::int64_t max_tokens, std::size_t workspace_bytes, const RunArgs& args);
void check_ids(const Problem& problem, std::span<const std::int32_t> topk_ids);

}  // namespace megamoe
