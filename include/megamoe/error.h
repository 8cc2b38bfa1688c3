// The one exception type of the library: a code for programs, one sentence for people.
//
// A sentence says what was asked, what was found and what is accepted:
//   throw Error(Code::kInvalidArgument, "hidden: asked ", hidden, ", accepted: multiples of 16");
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace megamoe {

enum class Code {
  kInvalidArgument,  // the caller asked for something no backend can mean
  kUnsupported,      // valid, but no backend of this build on this machine does it
  kBadFile,          // a file is missing, malformed, or not what its config says
  kOutOfMemory,
  kDevice,  // an accelerator or its driver failed
  kTimeout,
  kInternal,  // a fault of megamoe itself
};

class Error : public std::runtime_error {
 public:
  template <class... Parts>
  explicit Error(Code code, const Parts&... parts) : std::runtime_error(sentence(parts...)), code_(code) {}

  Code code() const noexcept { return code_; }

 private:
  template <class... Parts>
  static std::string sentence(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
  }

  Code code_;
};

}  // namespace megamoe
