#pragma once

#include <string>
#include <string_view>

namespace fewbits {

/// RFC 4648, with or without its padding. Throws Error, beginning with `where`, for anything else.
std::string decode_base64(std::string_view text, std::string_view where);

}  // namespace fewbits
