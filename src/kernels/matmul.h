#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "formats/tensor_view.h"
#include "kernels/block_layout.h"

// y = x W^T for packed weights W [rows, columns] of any format and float activations x [tokens,
// columns].
//
// Few tokens: integer dot products on row-interleaved packed weights, bounded by memory bandwidth.
// Many tokens: a panel of rows becomes int8 (or float) once and one tuned product serves all
// formats. Activations become int8 once per input and are shared by all the matrices that read it.
// Results depend on neither the thread count nor on how tokens are batched with others beyond the
// few/many switch.
namespace fewbits {

struct PackOptions {
  bool repack = true;  ///< false: compute from the mapped bytes, nothing copied
  bool float_math =
      false;  ///< decode weights and compute in float: the yardstick for the integer path's error
};

/// A weight matrix laid out for this machine's kernels. Movable.
class PackedMatrix {
 public:
  PackedMatrix();
  PackedMatrix(PackedMatrix&&) noexcept;
  PackedMatrix& operator=(PackedMatrix&&) noexcept;
  ~PackedMatrix();

  /// Packed row i is row row_order[i] of `weights` (empty: the same order). Without `repack`,
  /// `weights` is borrowed.
  static PackedMatrix pack(const TensorView& weights, std::span<const int32_t> row_order,
                           PackOptions options, ThreadPool& pool);

  /// The same for rows that nobody else keeps.
  static PackedMatrix keep(const Format& format, Shape shape, std::vector<std::byte> bytes,
                           PackOptions options, ThreadPool& pool);

  int64_t rows() const;  ///< 0: nothing was packed
  int64_t columns() const;
  const Format& format() const;
  int64_t bytes() const;  ///< read for one token
  /// Whether products are computed with the int8 form of inputs.
  bool multiplies_codes() const;

  /// One row as floats, exactly as the format decodes it (token embeddings).
  void decode_row(int64_t row, float* out) const;

  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Input rows of one or more products. Borrows the floats; int8 forms are made when a product first
/// needs them and kept until the next `assign`. Reuse one object: it keeps its buffers.
class Activations {
 public:
  Activations();
  ~Activations();
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  /// `scales`: of the int8 form.
  void assign(const float* values, int64_t tokens, int64_t columns, CodeScales scales = {});
  const float* values() const;
  int64_t tokens() const;
  int64_t columns() const;

  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

struct MatrixProduct {
  const PackedMatrix* weights;
  float* out;  ///< [tokens][out_stride], the first rows() of each row are written
  int64_t out_stride;
};

/// All products of one input in one go of the pool. REQUIRES: columns agree.
void multiply(std::span<const MatrixProduct> products, Activations& input, ThreadPool& pool);

}  // namespace fewbits
