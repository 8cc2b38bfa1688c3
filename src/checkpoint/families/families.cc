#include <algorithm>
#include <array>

#include "checkpoint/families/family.h"

namespace megamoe {

// One file of this folder each.
extern const Family kQwen3Moe;
extern const Family kQwen2Moe;
extern const Family kQwen3Next;
extern const Family kMixtral;
extern const Family kDeepseekV2;
extern const Family kDeepseekV3;
extern const Family kGlm4Moe;

std::span<const Family* const> families() {
  static constexpr std::array<const Family*, 7> kFamilies{
      &kQwen3Moe, &kQwen2Moe, &kQwen3Next, &kMixtral, &kDeepseekV2, &kDeepseekV3, &kGlm4Moe,
  };
  return kFamilies;
}

namespace {

constexpr std::int64_t kMaxExperts = std::int64_t{1} << 16;

// A key that contains one of these speaks about experts or routing. A family that does not ask for it does not know
// what it does, and dropping it (swiglu_limit, a second kind of group) has cost others accuracy without a word.
constexpr std::array<std::string_view, 9> kTellingParts{
    "expert", "moe", "rout", "topk", "scoring", "swiglu", "n_group", "hash_layers", "mlp_layer_types",
};

// Training and bookkeeping: no effect on a forward pass.
constexpr std::array<std::string_view, 8> kHarmless{
    "aux_loss_alpha",     "output_router_logits", "router_aux_loss_coef",   "router_jitter_noise",
    "router_z_loss_coef", "expert_interval",      "experts_implementation", "_experts_implementation",
};

bool is_telling(std::string_view key) {
  return std::ranges::any_of(kTellingParts, [&](auto part) { return key.find(part) != std::string_view::npos; }) &&
         std::ranges::find(kHarmless, key) == kHarmless.end();
}

void refuse_unread_keys(ConfigReader& config) {
  std::string known;
  for (const std::string& key : config.asked())
    if (is_telling(key)) known += (known.empty() ? "" : ", ") + key;
  for (const std::string& key : config.keys())
    if (config.has(key) && is_telling(key) && !config.asked().contains(key))
      config.fail_unsupported(0, key, ": unknown to this family, accepted about experts and routing: ", known);
}

void require_fitting_sizes(ConfigReader& config, const Architecture& a) {
  if (a.top_k > a.experts)
    config.fail(0, "num_experts_per_tok: found ", a.top_k, " for ", a.experts, " experts, accepted: at most one each");
  if (a.hidden % 16 != 0) config.fail_unsupported(11, "hidden_size: found ", a.hidden, ", accepted: multiples of 16");
  if (a.inter % 16 != 0) config.fail_unsupported(11, "expert width: found ", a.inter, ", accepted: multiples of 16");
  if (a.shared_inter % 16 != 0)
    config.fail_unsupported(11, "shared expert width: found ", a.shared_inter, ", accepted: multiples of 16");
  if (a.moe_layers.empty()) config.fail(0, "no layer of ", a.layers, " has experts");
  const RoutingRule& rule = a.routing;
  if (rule.groups < 1 || a.experts % rule.groups != 0)
    config.fail(0, "n_group: found ", rule.groups, " for ", a.experts, " experts, accepted: a divisor");
  else if (rule.groups_kept < 1 || rule.groups_kept > rule.groups)
    config.fail(0, "topk_group: found ", rule.groups_kept, ", accepted: 1 to ", rule.groups);
  else if (a.top_k > a.experts / rule.groups * rule.groups_kept)
    config.fail(0, "num_experts_per_tok: found ", a.top_k, ", but the kept groups hold ",
                a.experts / rule.groups * rule.groups_kept, " experts");
}

const Family* find_family(ConfigReader& config) {
  const std::string model_type = config.text("model_type");
  std::string accepted;
  for (const Family* family : families())
    for (const std::string_view type : family->model_types) {
      if (type == model_type) return family;
      accepted += (accepted.empty() ? "" : ", ") + std::string(type);
    }
  if (config.has("model_type")) config.fail_unsupported(0, "model_type: found ", model_type, ", accepted: ", accepted);
  return nullptr;
}

}  // namespace

Architecture read_architecture(const Config& file, Findings& findings) {
  Architecture architecture;
  ConfigReader top(file, findings);
  // Multimodal wrappers keep the language model's config in text_config.
  std::optional<ConfigReader> nested;
  if (top.is_object("text_config")) nested = top.object("text_config");
  ConfigReader& config = nested ? *nested : top;

  architecture.family = find_family(config);
  if (architecture.family == nullptr) return architecture;
  architecture.family->read(config, architecture);
  if (architecture.experts > kMaxExperts)
    config.fail(0, "experts: found ", architecture.experts, ", accepted: at most ", kMaxExperts);
  architecture.has_sizes = config.faults() == 0;
  refuse_unread_keys(config);
  if (architecture.has_sizes) require_fitting_sizes(config, architecture);
  return architecture;
}

}  // namespace megamoe
