#pragma once

#include <string>
#include <string_view>

namespace fewbits {

/// A name from a file for an error message: in quotes, at most 80 characters, control characters
/// and all but ASCII escaped, so that a hostile name neither breaks the line nor speaks to the
/// terminal.
std::string quote_name(std::string_view name);

}  // namespace fewbits
