#include "support_table.h"

#include <fmt/format.h>

#include <array>

#include "megamoe/moe.h"

namespace megamoe::cli {
namespace {

struct Feature {
  const char* title;
  const char* problem;  // the smallest that has the feature
};

constexpr std::array<Feature, 9> kFeatures{{
    {"NVFP4 weights, bf16 activations (W4A16)", "h=64 i=32 e=4 k=2 w=nvfp4 a=bf16"},
    {"NVFP4 weights, int8 activations (W4A8)", "h=64 i=32 e=4 k=2 w=nvfp4 a=int8"},
    {"NVFP4 weights, nvfp4 activations (W4A4), scale per token", "h=64 i=32 e=4 k=2 w=nvfp4 a=nvfp4"},
    {"NVFP4 weights, nvfp4 activations (W4A4), static scale", "h=64 i=32 e=4 k=2 w=nvfp4 a=nvfp4 scale=static"},
    {"BF16 weights, bf16 activations", "h=64 i=32 e=4 k=2 w=bf16 a=bf16"},
    {"SwiGLU with limit", "h=64 i=32 e=4 k=2 w=nvfp4 a=bf16 limit=7"},
    {"gpt-oss activation with biases", "h=64 i=32 e=4 k=2 w=nvfp4 a=bf16 act=oai limit=7 bias"},
    {"gated shared expert", "h=64 i=32 e=4 k=2 w=nvfp4 a=bf16 shared=32:bf16:gated"},
    {"top-k weight before the second GEMM", "h=64 i=32 e=4 k=2 w=nvfp4 a=bf16 topk=before"},
}};

}  // namespace

std::string support_table() {
  std::string head = "| |";
  std::string rule = "|---|";
  for (const std::string_view backend : backend_names()) {
    head += fmt::format(" `{}` |", backend);
    rule += ":-:|";
  }
  std::string table = head + "\n" + rule + "\n";
  for (const Feature& feature : kFeatures) {
    table += fmt::format("| {} |", feature.title);
    for (const Candidate& candidate : candidates(parse_problem(feature.problem)))
      table += candidate.refusal.empty() || candidate.elsewhere ? " yes |" : " no |";
    table += "\n";
  }
  return table;
}

}  // namespace megamoe::cli
