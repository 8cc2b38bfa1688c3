// What every backend asks of a source before it packs: that the experts are those of the problem.
#pragma once

#include <cstdint>
#include <span>

#include "megamoe/moe.h"

namespace megamoe {

// Throw kInvalidArgument, naming the expert and the part: format or shape of a matrix, missing memory, a global scale
// that is not finite and above 0, biases where the problem has none or of another size, and input scales that static
// NVFP4 activations need and the source does not have.
void check_expert(const Problem& problem, std::int64_t index, const ExpertView& expert);
void check_shared_expert(const Problem& problem, const ExpertView& expert, std::span<const float> gate);

}  // namespace megamoe
