#pragma once

#include <filesystem>
#include <string_view>

#include "base/json.h"

// YAML as people write settings in: mappings, lists and scalars of one document. Scalars stay text,
// whatever they look like, so that "1e3" and "no" reach whoever knows what they should be.
namespace fewbits {

/// Throws Error, beginning with `where` and a line, on bad YAML, anchors and aliases, keys that are
/// no scalars or come twice, nesting deeper than 16, or more than one document.
Json parse_yaml(std::string_view text, std::string_view where);

/// Reads and parses a file of at most 1 MiB.
Json read_yaml_file(const std::filesystem::path& path);

}  // namespace fewbits
