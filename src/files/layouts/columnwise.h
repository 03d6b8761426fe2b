#pragma once

#include <functional>
#include <optional>

#include "files/layouts/layout.h"
#include "files/layouts/parts.h"

// What GPTQ's and AWQ's layouts share: scales and zero points lie [group][output].
namespace fewbits {

struct ColumnwiseGrids {
  int bits;
  const Part* scales;  ///< [groups, rows]
  std::function<uint8_t(int64_t row, int64_t group)> zero_of;
};

/// Fills in levels, groups, format, scales and zeros. Where every zero point is the middle the
/// matrix is symmetric. REQUIRES: rows and columns are known. Throws Error where the scales do not
/// fit them.
void read_columnwise_grids(Parts& parts, const ColumnwiseGrids& grids, CodedMatrix& matrix);

/// What of an integer format its name says: bits, asymmetric or not, values that share a scale (-1:
/// a row).
struct IntFormat {
  int bits = 0;
  bool zeros = false;
  int64_t group = 0;
};
/// Nothing where the format is another.
std::optional<IntFormat> int_format(const Format& format);

struct MatrixSizes {
  int bits;
  int64_t rows, columns;
};

/// How the layouts differ. Codes and zero points are put into words that are zeros before.
struct Columnwise {
  void (*put_code)(const MatrixSizes& sizes, int64_t row, int64_t column, uint8_t code,
                   uint32_t* words);
  void (*put_zero)(const MatrixSizes& sizes, int64_t row, int64_t group, uint8_t zero,
                   uint32_t* words);
  Shape (*code_words)(const MatrixSizes& sizes);  ///< shape of qweight
  int zero_shift = 0;  ///< what zero points are stored less, modulo 2^bits
  bool group_indices = false;
};

/// A weight with all of its tensors in memory until its last row.
std::unique_ptr<LayoutTensor> columnwise_tensor(const Columnwise& layout, const Format& format,
                                                std::string module, Shape shape);

}  // namespace fewbits
