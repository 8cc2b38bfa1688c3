// megamoe prepare: a checkpoint's layers in a backend's packed form, in files that run and bench map.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>

#include "bench/synthetic.h"
#include "command.h"
#include "json_output.h"
#include "layer_choice.h"
#include "megamoe/checkpoint.h"
#include "megamoe/error.h"
#include "megamoe/prepared_cache.h"
#include "messages.h"
#include "output.h"

namespace megamoe::cli {
namespace {

struct Options {
  std::string dir;
  std::string out;
  std::int64_t layer = -1;
  std::string activations;
  std::string backend = "cpu";
  int threads = 0;
  bool replace = false;
  bool json = false;
};

struct Prepared {
  std::int64_t layer;
  std::string file;
  double input_bytes;  // the experts as the checkpoint has them
  double bytes;
  double seconds;
};

double input_bytes(const Problem& problem) {
  const double routed = static_cast<double>(bench::expert_bytes(problem)) * static_cast<double>(problem.experts);
  if (problem.shared.inter == 0) return routed;
  Problem shared = problem;
  shared.inter = problem.shared.inter;
  shared.weights = problem.shared.weights;
  return routed + static_cast<double>(bench::expert_bytes(shared));
}

Prepared prepare_one(const Checkpoint& checkpoint, std::int64_t index, const Options& options) {
  MoeLayer layer = checkpoint.layer(index);
  if (!options.activations.empty()) layer.problem.activations = parse_activations(options.activations);
  message(fmt::format("preparing layer {}", index));
  const auto start = std::chrono::steady_clock::now();
  prepare_layer(checkpoint, layer, options.out,
                {.backend = options.backend, .threads = options.threads, .replace = options.replace});
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::string path = prepared_layer_path(options.out, layer);
  return {.layer = index,
          .file = path,
          .input_bytes = input_bytes(layer.problem),
          .bytes = static_cast<double>(std::filesystem::file_size(path)),
          .seconds = seconds};
}

int run(const Options& options) {
  const Checkpoint checkpoint = Checkpoint::open(options.dir);
  std::vector<std::int64_t> layers(checkpoint.layers().begin(), checkpoint.layers().end());
  if (options.layer >= 0) layers = {options.layer};
  std::vector<Prepared> all;
  for (const std::int64_t index : layers) all.push_back(prepare_one(checkpoint, index, options));

  double bytes = 0.0, seconds = 0.0;
  for (const Prepared& one : all) {
    bytes += one.input_bytes;
    seconds += one.seconds;
  }
  if (options.json) {
    nlohmann::json files = nlohmann::json::array();
    for (const Prepared& one : all)
      files.push_back({{"layer", one.layer},
                       {"file", one.file},
                       {"input_bytes", one.input_bytes},
                       {"bytes", one.bytes},
                       {"seconds", one.seconds}});
    print_json({{"checkpoint", checkpoint.identity()},
                {"files", files},
                {"input_bytes", bytes},
                {"seconds", seconds},
                {"input_gb_per_s", bytes / seconds * 1e-9}});
    return kDone;
  }
  Table table({{"layer", Align::kRight}, {"file"}, {"size", Align::kRight}, {"time", Align::kRight}});
  for (const Prepared& one : all)
    table.add_row({fmt::format("{}", one.layer), one.file, human_bytes(one.bytes), human_time(one.seconds)});
  table.print();
  print_line();
  print_facts({{"rate", human_rate(bytes, seconds)}});
  return kDone;
}

}  // namespace

void add_prepare(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "prepare", "Pack a checkpoint's experts once, into files that run and bench map",
            "megamoe prepare model-nvfp4 -o model.prepared --activations int8", options->json);
  verb.text("DIR", options->dir, "Directory of the checkpoint", Need::kRequired);
  verb.text("-o,--output", options->out, "Directory for the files, one a layer", Need::kRequired);
  verb.integer("--layer", options->layer, 0, "Only this layer; without it all of them");
  add_activations_option(verb, options->activations);
  add_backend_option(verb, options->backend);
  add_threads_option(verb, options->threads);
  verb.flag("--replace", options->replace, "Write over files that are there");
  verb.action([options] { return run(*options); });
}

}  // namespace megamoe::cli
