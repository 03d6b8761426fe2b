#pragma once

#include <string_view>

#include "model/templates/ast.h"

namespace fewbits::templates {

/// Throws Error with line and construct where the text is malformed or outside the subset.
Ast parse(std::string_view source);

}  // namespace fewbits::templates
