// Lists of modules as quantisation configs write them.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

namespace megamoe {

// Matches a module's full name ("model.layers.3.mlp.gate") against a list of
//   name       that module and all below it
//   glob       '*' stands for any text, dots too ("*.attn.*", "model.layers.61*")
//   re:regex   Python's re.match: anchored at the start only
class ModulePatterns {
 public:
  ModulePatterns();
  ModulePatterns(ModulePatterns&&) noexcept;
  ModulePatterns& operator=(ModulePatterns&&) noexcept;
  ~ModulePatterns();

  // Returns false for a regex that can not be read.
  bool add(const std::string& pattern);
  bool matches(std::string_view module) const;

 private:
  struct Regexes;
  std::unordered_set<std::string> names_;
  std::vector<std::string> globs_;
  std::unique_ptr<Regexes> regexes_;
};

}  // namespace megamoe
