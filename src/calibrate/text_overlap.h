#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

// Whether a model is measured on text that it was fitted to, found out long after the fitting from
// a few numbers that its certificate keeps (a bottom-k sketch: Broder 1997, "On the resemblance and
// containment of documents").
namespace fewbits {

/// The least hashes, ascending, of all passages of a text: runs of 64 bytes, blanks left out, so
/// that line breaks and languages without spaces do not matter. A random choice of its passages
/// that is the same wherever they stand. Empty where the text is shorter than a passage.
using TextSketch = std::vector<uint64_t>;

inline constexpr int64_t kSketchPassages = 32;

TextSketch sketch_of(std::string_view text);

/// Of all files together. Throws Error where one cannot be read.
TextSketch sketch_of(std::span<const std::filesystem::path> files);

/// How many of the sketch's passages are in the text.
int64_t passages_found(const TextSketch& sketch, std::string_view text);

}  // namespace fewbits
