// How plan and bench are told which layer is meant: a published model's sizes, a problem's text, or a checkpoint.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "megamoe/moe.h"
#include "verb.h"

namespace megamoe::cli {

struct LayerChoice {
  std::string dir;
  std::int64_t layer = -1;
  std::string shape;
  std::string problem;
  std::int64_t experts = 0;
  bool shared = false;
  std::string activations;  // empty: as the problem says
};

struct ChosenLayer {
  Problem problem;
  std::shared_ptr<const ExpertSource> source;
};

// --shape, --problem, --experts, --shared, --activations; with `checkpoint` also DIR and --layer.
void add_layer_options(Verb& verb, LayerChoice& choice, bool checkpoint);

// Throws kInvalidArgument unless exactly one way of naming the layer was used.
ChosenLayer choose_layer(const LayerChoice& choice);

// For --activations of every verb: accepts "bf16", "nvfp4", "int8".
void add_activations_option(Verb& verb, std::string& text);
ActivationFormat parse_activations(const std::string& text);

// For --backend of every verb: accepts "auto", the names of backend_names(), and their families ("cuda").
void add_backend_option(Verb& verb, std::string& text);

// For --isa of verbs that plan: a name of cpu_instruction_sets(), or empty.
void add_isa_option(Verb& verb, std::string& isa);

// For --threads of every verb.
void add_threads_option(Verb& verb, int& threads);

}  // namespace megamoe::cli
