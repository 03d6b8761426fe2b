#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "formats/format.h"
#include "methods/hessian.h"

// GPTQ (Frantar et al. 2022, arXiv 2210.17323, algorithm 1) into any block format, followed by
// coordinate descent.
//
// The parameters of every block are fitted first and frozen, as they are stored; so the codes of a
// row depend on no other row, and columns may be taken in any order without the file having to say
// which. Each column in turn is rounded, and what that lost is made up for by the columns still
// open: w_rest -= (w_j - q_j) / U_jj * U_j,rest. Then single codes move as long as that lowers (w -
// q)^T H (w - q), and scales are refitted to the codes.
namespace fewbits {

struct GptqOptions {
  int descent_passes = 4;  ///< of coordinate descent over all codes; 0: plain GPTQ
};

/// What all rows of a matrix have in common.
struct GptqProblem {
  const Format& format;  ///< a block format
  const Hessian& hessian;
  GptqOptions options = {};
  const Outer* outer = nullptr;  ///< of the tensor, where all its rows share parameters
};

/// Rows of a matrix that one thread rounds at once: many for products that run at speed, an eighth
/// at most so that there is work for all, two million weights at most for memory's sake. It must
/// not go by the number of threads: sums are cut as the rows are.
constexpr int64_t rows_rounded_at_once(int64_t rows, int64_t columns) {
  constexpr int64_t kLeast = 32, kMost = 256, kMostWeights = int64_t{2} << 20;
  return std::clamp(std::min(rows / 8, kMostWeights / columns) / kLeast * kLeast, kLeast, kMost);
}

/// Rounds `rows` rows of `hessian.columns` weights and writes them as the format stores them.
/// Returns the sum over rows of (w - q)^T H (w - q). Rows are independent: cut the work by rows, in
/// any way.
double gptq(const GptqProblem& problem, const float* weights, int64_t rows, std::byte* out);

/// The same for any format: vector codes round whole rows, whose errors cannot be handed on column
/// by column; they are weighed by the diagonal of H.
void round_rows(const GptqProblem& problem, const float* weights, int64_t rows, std::byte* out);

}  // namespace fewbits
