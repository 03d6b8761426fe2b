#pragma once

#include <string>

namespace fewbits::cli {

/// The version, the compiler, and the instruction sets built, best first, with the one in use
/// marked.
std::string version_text();

}  // namespace fewbits::cli
