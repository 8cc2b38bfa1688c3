// Which problems the Hopper backend takes. In every build, so that one without CUDA can say so too.
#pragma once

#include <string>

#include "megamoe/moe.h"

namespace megamoe {

// One sentence, or empty where it takes the problem on an H100 or H200.
std::string sm90_refusal(const Problem& problem);

}  // namespace megamoe
