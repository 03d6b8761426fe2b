#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"

// The second-order view of one linear layer: for inputs x, the squared output error of changed
// weights is sum over rows of d^T H d with H = mean of x x^T over calibration tokens (d: change of
// a row).
namespace fewbits {

/// What few tokens say of pairs of inputs is mostly chance, and GPTQ makes up for one weight's
/// error by another's as they say: so it is shrunk towards no covariance (Schaefer and Strimmer
/// 2005, target D), as if so many tokens more had said that inputs are independent. Their own
/// estimate comes to 1000 on text like that gathered on; on other text 4000 to 10000 lost least.
inline constexpr double kPriorTokens = 4000;

struct HessianOptions {
  double damping = 0.03;  ///< added to the diagonal, as a share of its mean
  /// That the moments were gathered on. What is off the diagonal is shrunk, as if kPriorTokens more
  /// had said that inputs are independent. 0: very many.
  int64_t tokens = 0;
  bool descending = true;  ///< columns with large inputs first ("act-order"), while later ones can
                           ///< still make up for them
};

/// What GPTQ needs of H, computed once for all layers that read the same input.
struct Hessian {
  int64_t columns = 0;
  std::vector<int32_t> order;  ///< columns in the order of processing
  std::vector<float> matrix;   ///< H itself, damped, [columns][columns], in original order
  std::vector<float> update;   ///< U, upper triangular with H^-1 = U^T U, in processing order
  double damping = 0;          ///< the share that was needed
  double kept = 1;             ///< of what was off the diagonal

  float diagonal(int64_t column) const {
    return matrix[static_cast<size_t>(column * columns + column)];
  }
};

/// `gram` is the mean of x x^T, symmetric, [columns][columns]. Inputs that were always zero are
/// given the mean diagonal, so their weights round to nearest. Damping grows tenfold until the
/// factorization succeeds; Error where the matrix holds anything not finite.
Hessian factor_hessian(std::vector<float> gram, int64_t columns, ThreadPool& pool,
                       const HessianOptions& options = {});

/// Most memory that factor_hessian takes, what it is given and what it gives included.
int64_t hessian_bytes(int64_t columns);

/// Of the damped H, in original order.
std::vector<float> diagonal_of(const Hessian& hessian);

/// Rows [..][columns] times H^-1 of the damped H.
void multiply_by_inverse(const Hessian& hessian, std::vector<float>& rows);

}  // namespace fewbits
