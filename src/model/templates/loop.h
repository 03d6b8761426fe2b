#pragma once

#include <optional>
#include <string_view>

#include "model/templates/runtime.h"

// The variable `loop` inside a {% for %}.
namespace fewbits::templates {

/// Moves to the next item; false at the end.
bool advance(Loop& loop);

/// loop.index, .first, .last, .previtem, ...; nullopt for other names.
std::optional<Value> loop_field(Runtime& runtime, Loop& loop, std::string_view name);

}  // namespace fewbits::templates
