// What this build reads, by name.
#include "checkpoint/dialects/dialect.h"
#include "checkpoint/families/family.h"
#include "megamoe/checkpoint.h"

namespace megamoe {

std::vector<std::string_view> family_names() {
  std::vector<std::string_view> names;
  for (const Family* family : families()) names.push_back(family->name);
  return names;
}

std::vector<std::string_view> dialect_names() {
  std::vector<std::string_view> names;
  for (const Dialect* dialect : dialects()) names.push_back(dialect->name);
  return names;
}

}  // namespace megamoe
