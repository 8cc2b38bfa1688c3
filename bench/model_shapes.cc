#include "bench/model_shapes.h"

#include <sstream>

#include "megamoe/error.h"
#include "models_text.h"

namespace megamoe::bench {
namespace {

struct ModelShape {
  std::string name;
  Problem problem;
};

// A line is "t=TOKENS WORDS... # name"; what follows the name is a remark. Lines that begin with # are comments.
std::vector<ModelShape> read_models() {
  std::vector<ModelShape> shapes;
  std::istringstream lines(kModelsText);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t mark = line.find('#');
    if (mark == 0 || mark == std::string::npos) continue;
    ModelShape shape;
    std::istringstream(line.substr(mark + 1)) >> shape.name;
    const std::size_t words = line.find(' ');  // after t=TOKENS
    shape.problem = parse_problem(std::string_view(line).substr(words, mark - words));
    shapes.push_back(std::move(shape));
  }
  return shapes;
}

const std::vector<ModelShape>& models() {
  static const std::vector<ModelShape> shapes = read_models();
  return shapes;
}

const ModelShape& find_shape(std::string_view name) {
  std::string names;
  for (const ModelShape& shape : models()) {
    if (shape.name == name) return shape;
    names += (names.empty() ? "" : ", ") + shape.name;
  }
  throw Error(Code::kInvalidArgument, "shape: asked '", name, "', accepted: ", names);
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const ModelShape& shape : models()) names.push_back(shape.name);
  return names;
}

Problem shape_problem(std::string_view name, const ShapeOptions& options) {
  Problem problem = find_shape(name).problem;
  problem.weights = WeightFormat::kNvfp4;
  problem.activations = options.activations;
  if (!options.shared)
    problem.shared = {};
  else if (problem.shared.inter == 0)
    throw Error(Code::kInvalidArgument, "shape: ", name, " has no shared expert");
  if (options.experts != 0) {
    if (options.experts < problem.top_k)
      throw Error(Code::kInvalidArgument, "experts: asked ", options.experts, ", accepted: at least the ",
                  problem.top_k, " that a token of ", name, " chooses");
    problem.experts = options.experts;
  }
  return problem;
}

}  // namespace megamoe::bench
