#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "base/error.h"

namespace fewbits {

/// A name from a file for an error message: in quotes, at most 80 characters, control characters
/// and all but ASCII escaped, so that a hostile name neither breaks the line nor speaks to the
/// terminal.
std::string quote_name(std::string_view name);

/// What `act` gives; an Error that it throws, knowing no file, gets `where` in front.
template <class Act>
auto with_place(std::string_view where, Act act) {
  try {
    return act();
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", where, error.what()));
  }
}

}  // namespace fewbits
