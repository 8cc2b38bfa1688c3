// megamoe convert: an NVFP4 model from one dialect to another.
#include <memory>

#include "command.h"
#include "megamoe/checkpoint.h"
#include "progress.h"
#include "rewrite_output.h"

namespace megamoe::cli {
namespace {

struct Options {
  RewriteChoice choice;
  RewriteOptions convert;
};

int run(Options options, bool quiet) {
  Progress progress("converting", quiet);
  options.convert.progress = [&](std::uint64_t done, std::uint64_t total, std::string_view what) {
    progress.update(done, total, what);
  };
  const RewriteReport report = convert(options.choice.dir, options.choice.out, options.convert);
  progress.finish();
  print_rewrite(options.choice, report, {});
  return kDone;
}

}  // namespace

void add_convert(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  Verb verb(app, session, "convert",
            "Write an NVFP4 model in another dialect, codes and scales unchanged, or as plain BF16",
            "megamoe convert model-modelopt -o model-ct --dialect compressed-tensors", options->choice.json);
  add_rewrite_options(verb, options->choice, options->convert);
  verb.choice("--dialect", options->convert.dialect, {"modelopt", "compressed-tensors", "plain"},
              "How tensors and configs are written; plain: weights rounded to BF16");
  verb.action([&session, options] { return run(*options, session.quiet); });
}

}  // namespace megamoe::cli
