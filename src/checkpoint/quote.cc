#include "checkpoint/quote.h"

#include <cstddef>

namespace megamoe {
namespace {

constexpr std::size_t kMaxShownBytes = 96;

// Bytes of the well-formed, printable UTF-8 character at the front of `text`, or 0. Overlong forms and surrogates are
// let through as they are harmless to show.
std::size_t printable_character(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return lead >= 0x20 && lead != 0x7f ? 1 : 0;
  const std::size_t length = lead >= 0xf0 && lead < 0xf8   ? 4
                             : lead >= 0xe0 && lead < 0xf0 ? 3
                             : lead >= 0xc2 && lead < 0xe0 ? 2
                                                           : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  const bool is_c1_control = lead == 0xc2 && byte(1) < 0xa0;
  return is_c1_control ? 0 : length;
}

}  // namespace

std::string quote(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  while (!text.empty() && out.size() <= kMaxShownBytes) {
    const std::size_t length = printable_character(text);
    if (length == 0) {
      const auto byte = static_cast<unsigned char>(text.front());
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
      text.remove_prefix(1);
    } else {
      out += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
  return out + (text.empty() ? "'" : "'...");
}

bool is_printable_name(std::string_view text) noexcept {
  while (!text.empty()) {
    const std::size_t length = printable_character(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace megamoe
