#pragma once

#include "formats/format.h"

namespace fewbits {

/// Moves parameters of a block so that the sum of |error|^0.7 falls, which forgives a few large
/// errors for many small ones: half-quadratic quantization (Badri and Shaji 2023, HQQ). Codes,
/// errors that count as outliers, and the grids that fit the rest are found in turn. HQQ moves the
/// zero point alone, with weights as they are; here errors are taken in steps of the grid, so that
/// the magnitude of weights does not matter, and scales move, too.
/// REQUIRES: format.has_levels().
void fit_robustly(const Format& format, const float* values, BlockParameters& parameters);

}  // namespace fewbits
