#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/tokenizers/pattern.h"

// What the parts of a tokenizer.json have in common.
namespace fewbits {

/// The steps of a part in order: nothing for null, the elements of a Sequence (nested ones too), or
/// the part itself. `list_key` names the list of a Sequence, which differs from part to part.
std::vector<const Json*> flatten_sequence(const Json& part, const char* list_key,
                                          std::string_view where);

/// {"String": "x"} or {"Regex": "x"}
TextPattern pattern_from_json(const Json& step, const char* key, std::string_view where);

/// Throws Error: "... normalizer 'X' is not supported; known: ..."
[[noreturn]] void unknown_part(std::string_view kind, std::string_view name,
                               const std::vector<std::string>& known, std::string_view where);

/// A value of `object`, or null where it is missing.
const Json& json_member(const Json& object, const char* key);

}  // namespace fewbits
