#pragma once

#include <span>
#include <vector>

// Scales that move size from one side of a product to the other: columns of a matrix times s, what
// it is fed over s, which whatever makes these inputs (a norm's gains, the rows of another matrix)
// takes over. The product stays the same.
namespace fewbits {

/// SmoothQuant: s = max|x|^alpha / max|w|^(1 - alpha) by column, so that activations are as easy to
/// round as alpha says, and weights as hard. `inputs`, `weights`: the largest magnitudes of each
/// column. What is below 1e-5 counts as that; columns without inputs or weights get 1.
/// (Xiao et al. 2022, arXiv 2211.10438)
std::vector<float> smoothing_scales(std::span<const float> inputs, std::span<const float> weights,
                                    double alpha);

/// Equalization across two matrices y = B f(A x) where f commutes with positive factors: s =
/// sqrt(max|A row| / max|B column|) makes both sqrt(max|A row| max|B column|) once A's rows are
/// divided by it and B's columns multiplied. Where either is 0, s is 1.
/// (Nagel et al. 2019, arXiv 1906.04721)
std::vector<float> equalizing_scales(std::span<const float> rows, std::span<const float> columns);

}  // namespace fewbits
