// Collecting what is wrong instead of stopping at the first: inspect lists all findings, the loader throws the first.
#pragma once

#include <cstddef>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "megamoe/checkpoint.h"
#include "megamoe/error.h"

namespace megamoe {

class Findings {
 public:
  // `pitfall` as in pitfall_title(), 0 for none; `tensor` and `file` may be empty.
  template <class... Parts>
  void add(int pitfall, std::string tensor, std::string file, const Parts&... parts) {
    std::ostringstream sentence;
    (sentence << ... << parts);
    list_.push_back({pitfall, std::move(tensor), std::move(file), sentence.str()});
  }

  // The same for a sound file of a kind that megamoe does not read.
  template <class... Parts>
  void add_unsupported(int pitfall, std::string tensor, std::string file, const Parts&... parts) {
    if (list_.empty()) first_code_ = Code::kUnsupported;
    add(pitfall, std::move(tensor), std::move(file), parts...);
  }

  bool empty() const noexcept { return list_.empty(); }
  std::size_t size() const noexcept { return list_.size(); }
  const std::vector<Finding>& list() const noexcept { return list_; }
  std::vector<Finding> take() noexcept { return std::exchange(list_, {}); }

  void append(Findings&& other) {
    if (list_.empty()) first_code_ = other.first_code_;
    for (Finding& finding : other.list_) list_.push_back(std::move(finding));
  }

  // Keeps the first `most` findings of each pitfall; the last kept one says how many were dropped.
  void limit_each(int most);

  // Throws the first finding as an Error, with the number of the others; does nothing where there is none.
  void throw_if_any() const {
    if (list_.empty()) return;
    if (list_.size() == 1) throw Error(first_code_, list_.front().to_string());
    throw Error(first_code_, list_.front().to_string(), " (and ", list_.size() - 1,
                " more; megamoe inspect lists them)");
  }

 private:
  std::vector<Finding> list_;
  Code first_code_ = Code::kBadFile;
};

}  // namespace megamoe
