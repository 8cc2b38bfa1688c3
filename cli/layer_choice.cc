#include "layer_choice.h"

#include "bench/model_shapes.h"
#include "bench/synthetic.h"
#include "megamoe/checkpoint.h"
#include "megamoe/error.h"

namespace megamoe::cli {
namespace {

constexpr std::uint64_t kSeed = 1;

std::string shape_names() {
  std::string names;
  for (const std::string& shape : bench::shape_names()) names += (names.empty() ? "" : ", ") + shape;
  return names;
}

ChosenLayer synthetic(Problem problem) {
  auto source = std::make_shared<bench::SyntheticSource>(problem, kSeed);
  return {std::move(problem), std::move(source)};
}

}  // namespace

void add_layer_options(Verb& verb, LayerChoice& choice, bool checkpoint) {
  verb.text("--shape", choice.shape, "Sizes of a published model: " + shape_names());
  verb.text("--problem", choice.problem, "Sizes as text: \"h=2048 i=768 e=128 k=8 w=nvfp4\"");
  verb.integer("--experts", choice.experts, 0, "With --shape: fewer experts, to fit this machine; 0 = the model's");
  verb.flag("--shared", choice.shared, "With --shape: with the model's shared expert");
  add_activations_option(verb, choice.activations);
  if (!checkpoint) return;
  verb.text("DIR", choice.dir, "Directory of a checkpoint");
  verb.integer("--layer", choice.layer, 0, "With DIR: the layer's number");
}

ChosenLayer choose_layer(const LayerChoice& choice) {
  const int ways = int{!choice.shape.empty()} + int{!choice.problem.empty()} + int{!choice.dir.empty()};
  if (ways != 1)
    throw Error(Code::kInvalidArgument, "layer: named in ", ways, " ways, accepted: one of --shape, --problem and DIR");
  if (!choice.shape.empty()) {
    const auto activations =
        choice.activations.empty() ? ActivationFormat::kBf16 : parse_activations(choice.activations);
    return synthetic(bench::shape_problem(
        choice.shape, {.experts = choice.experts, .shared = choice.shared, .activations = activations}));
  }
  if (choice.experts != 0 || choice.shared)
    throw Error(Code::kInvalidArgument, "--experts and --shared go with --shape");

  ChosenLayer chosen;
  if (!choice.problem.empty()) {
    chosen.problem = parse_problem(choice.problem);
  } else {
    if (choice.layer < 0) throw Error(Code::kInvalidArgument, "DIR needs --layer N");
    const MoeLayer layer = Checkpoint::open(choice.dir).layer(choice.layer);
    chosen = {layer.problem, layer.experts};
  }
  if (!choice.activations.empty()) chosen.problem.activations = parse_activations(choice.activations);
  validate(chosen.problem);
  return chosen.source == nullptr ? synthetic(chosen.problem) : chosen;
}

void add_activations_option(Verb& verb, std::string& text) {
  verb.choice("--activations", text, {"bf16", "nvfp4", "int8"}, "Format in which activations meet the weights");
}

ActivationFormat parse_activations(const std::string& text) {
  for (const ActivationFormat format : {ActivationFormat::kBf16, ActivationFormat::kNvfp4, ActivationFormat::kInt8})
    if (name(format) == text) return format;
  throw Error(Code::kInvalidArgument, "activations: asked '", text, "', accepted: bf16, nvfp4, int8");
}

void add_backend_option(Verb& verb, std::string& text) {
  std::vector<std::string> names{"auto"};
  for (const std::string_view backend : backend_names()) {
    const std::string_view family = backend.substr(0, backend.find('/'));
    if (family != names.back()) names.emplace_back(family);
    if (family != backend) names.emplace_back(backend);
  }
  verb.choice("--backend", text, names, "Who computes; auto: the first that can; cuda: the first of that family");
}

void add_isa_option(Verb& verb, std::string& isa) {
  std::string names;
  for (const std::string& name : cpu_instruction_sets()) names += (names.empty() ? "" : ", ") + name;
  verb.text("--isa", isa,
            "Instruction set of backend cpu, here one of " + names +
                "; without it MEGAMOE_ISA, or the first of these; other backends refuse it");
}

void add_threads_option(Verb& verb, int& threads) { verb.integer("--threads", threads, 0, "0 = all of this machine"); }

}  // namespace megamoe::cli
