#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

// Options kept in a file (`--recipe FILE`): YAML whose keys are the verb's own options without
// their dashes, so that whatever can be typed can be kept, and is checked in the same way.
//
//   to: int4_g128
//   layout: compressed-tensors
//   samples: 128
//   tensor: {"blk.0.*": int8_g128}     # as --tensor GLOB=FORMAT, any number of them
//   act-order: true                    # an option that takes no value
//
// What is typed beside --recipe counts before what the file says. Files that a recipe names lie
// beside it, where the path is relative.
namespace fewbits::cli {

/// `typed`: the program's arguments, the verb first. Where there is --recipe among them, that is
/// replaced by what its file says. Throws Error where that is no recipe; an unknown key is told
/// together with the known ones.
std::vector<std::string> with_recipe(const std::vector<std::string>& typed, const CLI::App& app);

}  // namespace fewbits::cli
