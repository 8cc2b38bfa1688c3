#include "backends/cuda/sm90/choose.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <span>
#include <vector>

#include "backends/cuda/sm90/packed_weight.h"
#include "megamoe/error.h"

namespace megamoe::sm90 {
namespace {

// Up to here a kernel serves: mean rows of an active expert. Rows scatter around the mean like a Poisson variable, and
// a second tile of an expert costs a second pass over its weights, so the limits lie well below max_rows.
struct Limit {
  std::string_view kernel;
  double mean_rows;
};
constexpr Limit kNvfp4Limits[] = {{"stream 8", 2.0},        {"stream 16", 11.0},      {"stream 32", 17.0},
                                  {"tiles 256x48", 36.0},   {"tiles 256x96", 76.0},   {"tiles 256x128", 104.0},
                                  {"tiles 256x160", 140.0}, {"tiles 128x240", 208.0}, {"tiles 128x304", 1e30}};
constexpr Limit kBf16Limits[] = {{"stream 32, bf16", 20.0}, {"tiles 128x128, bf16", 1e30}};

// Where rows fall on experts unevenly, experts with few rows would take as long as a kernel's smallest instance, and
// those with many would be cut into more tiles than they need, each a pass over their weights. They run in other
// kernels, beside the one that the mean asks for. An empty name: in that one.
struct Companions {
  std::string_view kernel, few, many;
};
constexpr Companions kCompanions[] = {{"tiles 256x48", "", "tiles 256x128"},
                                      {"tiles 256x96", "tiles 256x48", "tiles 128x240"},
                                      {"tiles 256x128", "tiles 256x48", "tiles 128x240"},
                                      {"tiles 256x160", "tiles 256x96", "tiles 128x240"},
                                      {"tiles 128x240", "tiles 256x128", "tiles 128x304"},
                                      {"tiles 128x304", "tiles 256x128", ""}};

const Kernel* find(std::string_view name) {
  for (const Kernel& kernel : kernels())
    if (kernel.name == name) return &kernel;
  return nullptr;
}

// Active weights of a call that three small blocks an SM read faster than two: one token of V4-Flash (85 MB) 37.9
// against 39.3 us. Not fewer, one token of Qwen3 (21 MB) 17.9 against 16.0; nor more, four tokens of V4-Flash (270 MB)
// 105 against 100. Medians of development runs, H100.
constexpr double kThreeBlocksFrom = 50e6, kThreeBlocksTo = 120e6;

const Kernel& named(std::string_view name) {
  if (const Kernel* kernel = find(name)) return *kernel;
  throw Error(Code::kInternal, "kernels: no '", name, "'");
}

struct KernelLimit {
  const Kernel* kernel;
  double mean_rows;
};

std::vector<KernelLimit> look_up(std::span<const Limit> limits) {
  std::vector<KernelLimit> all;
  for (const Limit& limit : limits) all.push_back({&named(limit.kernel), limit.mean_rows});
  return all;
}

const Kernel& kernel_for(const GemmSizes& sizes) {
  if (sizes.forced != nullptr && sizes.forced->weights == sizes.weights) return *sizes.forced;
  const double mean = static_cast<double>(sizes.rows) / std::max(sizes.active, 1.0);
  // Every call of a plan asks: names are compared once a process.
  static const std::vector<KernelLimit> nvfp4 = look_up(kNvfp4Limits), bf16 = look_up(kBf16Limits);
  static const Kernel& three_blocks = named("stream 8, three");
  const std::vector<KernelLimit>& limits = sizes.weights == WeightFormat::kNvfp4 ? nvfp4 : bf16;
  const double bytes = 3 * 0.5625 * sizes.active * static_cast<double>(sizes.hidden * sizes.inter);
  const bool three = sizes.weights == WeightFormat::kNvfp4 && mean <= limits[0].mean_rows &&
                     bytes >= kThreeBlocksFrom && bytes <= kThreeBlocksTo;
  const auto limit =
      std::find_if(limits.begin(), limits.end(), [&](const KernelLimit& each) { return mean <= each.mean_rows; });
  return three ? three_blocks : *limit->kernel;
}

Kernels with_companions(const Kernel& kernel) {
  static const std::vector<Kernels> all = [] {
    std::vector<Kernels> rows;
    const auto or_none = [](std::string_view name) { return name.empty() ? nullptr : &named(name); };
    for (const Companions& each : kCompanions)
      rows.push_back({or_none(each.few), &named(each.kernel), or_none(each.many)});
    return rows;
  }();
  for (const Kernels& kernels : all)
    if (kernels[kUsual] == &kernel) return kernels;
  return {nullptr, &kernel, nullptr};
}

// Memory is busy once about this many blocks read weights at one time. Cutting K further to fill the device evenly cost
// more than it brought: one token of V4-Flash 46 us with 384 items against 41 us with 192, of 128 features each.
constexpr double kBusyItems = 90;

// Parts of K where too few items would keep memory busy; each part has the same number of stages, and none is empty.
std::int32_t parts_of(const Kernel& kernel, std::int64_t features, std::int64_t k, const GemmSizes& sizes) {
  if (!kernel.streams || sizes.rows > kMostCutRows) return 1;
  const double items = std::max(sizes.active, 1.0) * static_cast<double>(ceil_div(features, kernel.item_features));
  const auto wanted = static_cast<std::int64_t>(std::clamp(std::ceil(kBusyItems / items), 1.0, 8.0));
  const std::int64_t stages = (k + kernel.stage_k - 1) / kernel.stage_k;
  const std::int64_t each = (stages + wanted - 1) / wanted;
  return static_cast<std::int32_t>((stages + each - 1) / each);
}

}  // namespace

double expected_active(std::int64_t experts, std::int64_t top_k, std::int64_t tokens) {
  const double missed = 1.0 - static_cast<double>(top_k) / static_cast<double>(experts);
  return static_cast<double>(experts) * (1.0 - std::pow(missed, static_cast<double>(tokens)));
}

const Kernel* forced_kernel() {
  const char* name = std::getenv("MEGAMOE_SM90_KERNEL");
  if (name == nullptr) return nullptr;
  if (const Kernel* kernel = find(name)) return kernel;
  std::string accepted;
  for (const Kernel& kernel : kernels()) accepted += (accepted.empty() ? "'" : ", '") + std::string(kernel.name) + "'";
  throw Error(Code::kInvalidArgument, "MEGAMOE_SM90_KERNEL: asked '", name, "', accepted: ", accepted);
}

Choice choose(const GemmSizes& sizes) {
  const Kernel& kernel = kernel_for(sizes);
  return {.kernels = with_companions(kernel),
          .parts_gate_up = parts_of(kernel, 2 * sizes.inter, sizes.hidden, sizes),
          .parts_down = parts_of(kernel, sizes.hidden, sizes.inter, sizes)};
}

std::int64_t most_gathered(const GemmSizes& most, bool has_companions, std::int64_t panels, std::int64_t k,
                           std::int64_t experts, int multiprocessors) {
  const std::int32_t last = kernel_for(most).max_rows;
  std::int64_t elements = 0;
  for (const Kernel& kernel : kernels()) {
    if (kernel.streams || kernel.weights != most.weights || kernel.max_rows > last) continue;
    const Kernels together = has_companions ? with_companions(kernel) : Kernels{nullptr, &kernel, nullptr};
    elements = std::max(elements, gathered_elements(together, panels, k, most.rows, experts, multiprocessors));
  }
  return elements;
}

cuda::TileLists tile_lists(const Choice& choice, const TokenTiles& tiles, std::int32_t* counts, std::int64_t rows,
                           std::int64_t experts) {
  cuda::TileLists lists;
  for (std::size_t i = 0; i < tiles.size(); ++i)
    if (const Kernel* kernel = choice.kernels[i])
      lists.of[i] = {.tiles = tiles[i].data(),
                     .count = counts + i,
                     .max_rows = kernel->max_rows,
                     .step = kernel->row_step,
                     .most = static_cast<std::int32_t>(cuda::most_tiles(rows, experts, kernel->max_rows))};
  return lists;
}

}  // namespace megamoe::sm90
