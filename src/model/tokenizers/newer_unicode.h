#pragma once

#include <string>
#include <string_view>

namespace fewbits {

/// The characters of a general category ("L", "Lu", "N", ...) that Unicode 15 and 16 added, as
/// members of a PCRE2 character class; "" where there are none. Debian's PCRE2 knows Unicode 14,
/// `tokenizers` 16; no character has moved between categories since, so adding these makes them
/// equal.
std::string newer_characters(std::string_view category);

}  // namespace fewbits
