// What Plan::run asks of its arguments: sizes, which the host knows, where arrays of a device begin, and ids, which may
// lie on one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "megamoe/moe.h"

namespace megamoe {

// All throw kInvalidArgument.
void check_sizes(const Problem& problem, std::int64_t max_tokens, std::size_t workspace_bytes, const RunArgs& args);
void check_device_alignment(const RunArgs& args);
void check_ids(const Problem& problem, std::span<const std::int32_t> topk_ids);

}  // namespace megamoe
