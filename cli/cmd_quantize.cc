// megamoe quantize: a model's experts to NVFP4.
#include <memory>

#include "command.h"
#include "megamoe/checkpoint.h"
#include "progress.h"
#include "rewrite_output.h"

namespace megamoe::cli {
namespace {

struct Options {
  RewriteChoice choice;
  QuantizeOptions quantize;
};

int run(Options options, bool quiet) {
  Progress progress("quantising", quiet);
  options.quantize.progress = [&](std::uint64_t done, std::uint64_t total, std::string_view what) {
    progress.update(done, total, what);
  };
  const RewriteReport report = quantize(options.choice.dir, options.choice.out, options.quantize);
  progress.finish();
  print_rewrite(options.choice, report, options.quantize.recipe);
  return kDone;
}

}  // namespace

void add_quantize(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "quantize", "Write a model with its experts in NVFP4, all else byte for byte as it was",
            "megamoe quantize Qwen3-30B-A3B -o Qwen3-30B-A3B-NVFP4 --dialect modelopt --recipe mse",
            options->choice.json);
  add_rewrite_options(verb, options->choice, options->quantize);
  verb.choice("--dialect", options->quantize.dialect, {"modelopt", "compressed-tensors"},
              "How tensors and configs are written");
  verb.choice("--recipe", options->quantize.recipe, {"rne", "bridge", "four_six", "mse"},
              "How scales are chosen: rne (as hardware), four_six or mse (lower error), bridge (old outputs)");
  verb.action([&session, options] { return run(*options, session.quiet); });
}

}  // namespace megamoe::cli
