#include "checkpoint/dialects/module_patterns.h"

#include <regex>

namespace megamoe {
namespace {

constexpr std::size_t kMaxPatternBytes = 1024;
constexpr std::size_t kMaxMatchedBytes = 1024;

// libstdc++'s default matcher backtracks: exponential time on a hostile pattern, and its recursion overflows the stack.
// The polynomial one does neither.
constexpr auto kSyntax =
#ifdef __GLIBCXX__
    std::regex::ECMAScript | std::regex_constants::__polynomial;
#else
    std::regex::ECMAScript;
#endif

bool glob_matches(std::string_view glob, std::string_view text) {
  std::size_t g = 0, t = 0;
  std::size_t star = std::string_view::npos, star_text = 0;
  while (t < text.size()) {
    if (g < glob.size() && glob[g] == '*') {
      star = g++;
      star_text = t;
    } else if (g < glob.size() && glob[g] == text[t]) {
      ++g;
      ++t;
    } else if (star != std::string_view::npos) {
      g = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (g < glob.size() && glob[g] == '*') ++g;
  return g == glob.size();
}

}  // namespace

struct ModulePatterns::Regexes {
  std::vector<std::regex> list;
};

ModulePatterns::ModulePatterns() : regexes_(std::make_unique<Regexes>()) {}
ModulePatterns::ModulePatterns(ModulePatterns&&) noexcept = default;
ModulePatterns& ModulePatterns::operator=(ModulePatterns&&) noexcept = default;
ModulePatterns::~ModulePatterns() = default;

bool ModulePatterns::add(const std::string& pattern) {
  if (!pattern.starts_with("re:")) {
    if (pattern.find('*') == std::string::npos)
      names_.insert(pattern);
    else
      globs_.push_back(pattern);
    return true;
  }
  if (pattern.size() > kMaxPatternBytes) return false;
  try {
    regexes_->list.emplace_back(pattern.substr(3), kSyntax);
    return true;
  } catch (const std::regex_error&) {
    return false;
  }
}

bool ModulePatterns::matches(std::string_view module) const {
  if (!names_.empty())
    for (std::size_t end = module.size(); end != std::string_view::npos && end > 0; end = module.rfind('.', end - 1))
      if (names_.contains(std::string(module.substr(0, end)))) return true;
  for (const std::string& glob : globs_)
    if (glob_matches(glob, module)) return true;
  if (module.size() > kMaxMatchedBytes) return false;
  for (const std::regex& regex : regexes_->list)
    if (std::regex_search(module.begin(), module.end(), regex, std::regex_constants::match_continuous)) return true;
  return false;
}

}  // namespace megamoe
