#pragma once

#include "files/layouts/layout.h"
#include "files/layouts/parts.h"

// Codes of a byte each, as several layouts have them.
namespace fewbits {

/// A matrix whose codes are the bytes of `codes`, each with the bits of `flipped` the other way
/// round. A part called X.compressed has those that X.bitmask says are there, half of each row; the
/// others are 0. Throws Error where it is no matrix, or the bitmask says something else.
CodedMatrix matrix_of_bytes(Parts& parts, const Part& codes, uint8_t flipped);

/// E4M3 with one scale for the tensor, a row, a group, or a tile whose sizes the config has.
CodedMatrix join_float8(Parts& parts, const Part& codes, const Part& scale);

/// Writes E4M3 in tiles of 128 x 128; the scales' name ends with `scale_name`.
std::unique_ptr<LayoutTensor> tiled_tensor(const Format& format, std::string module, Shape shape,
                                           std::string scale_name);

}  // namespace fewbits
