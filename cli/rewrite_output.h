// What quantize and convert have in common: options of the output, progress, the report.
#pragma once

#include <string>

#include "megamoe/checkpoint.h"
#include "verb.h"

namespace megamoe::cli {

struct RewriteChoice {
  std::string dir;
  std::string out;
  bool json = false;
};

void add_rewrite_options(Verb& verb, RewriteChoice& choice, RewriteOptions& options);

// `recipe` is empty for convert, whose report has no errors to show.
void print_rewrite(const RewriteChoice& choice, const RewriteReport& report, const std::string& recipe);

}  // namespace megamoe::cli
