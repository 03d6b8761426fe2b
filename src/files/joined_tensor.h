#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "formats/tensor_view.h"

// A matrix whose rows no file holds one after another: quantized model folders keep codes, scales
// and zero points in tensors of their own. Here it looks like any other tensor: rows come in the
// bytes of a format. That is the one of ours with the same codes and grids, where each value then
// is the same to the last bit; where there is none, it is F32.
namespace fewbits {

/// One row as codes on grids.
struct CodedRow {
  std::vector<uint8_t> codes;  ///< of each column
  std::vector<float> scales;   ///< of each group
  std::vector<float> zeros;    ///< of each group: the level that stands for 0; empty: 0
};

/// Bytes in a mapped file.
struct FilePart {
  std::span<const std::byte> bytes = {};
  const MappedFile* file = nullptr;
};

/// value = scale * (levels[code] - zero)
struct CodedMatrix {
  int64_t rows = 0, columns = 0;
  std::span<const float> levels = {};  ///< of each code that `read` can give; lives for ever
  int64_t group_values = 1;            ///< consecutive values of a row that share a grid
  /// Group of each column, where groups are not consecutive; each below groups().
  std::vector<int32_t> group_of_column = {};
  std::optional<float> tensor_scale = {};  ///< what scales are multiples of: NVFP4's second level
  std::string format = {};           ///< name of the format with these levels and groups; "": none
  std::vector<FilePart> parts = {};  ///< what is read
  /// Fills `codes`.
  std::function<void(int64_t row, CodedRow& out)> read_codes = {};
  /// Fills `scales` and, in all rows or none, `zeros`.
  std::function<void(int64_t row, CodedRow& out)> read_grids = {};

  int64_t groups() const { return (columns + group_values - 1) / group_values; }
};

/// A matrix whose values are computed, in F32.
struct ComputedMatrix {
  int64_t rows = 0, columns = 0;
  std::vector<FilePart> parts = {};  ///< what is read
  std::function<void(int64_t row, float* out)> read = {};
};

class JoinedTensor {
 public:
  /// Reads all scales and zeros, to find whether the format holds them.
  explicit JoinedTensor(CodedMatrix matrix);

  explicit JoinedTensor(ComputedMatrix matrix);

  const Format& format() const { return *format_; }
  Shape shape() const { return {matrix_.rows, matrix_.columns}; }

  /// A row in the bytes of format(): row_bytes(format(), columns).
  void read_row(int64_t row, std::byte* out) const;

  int64_t stored_bytes() const;
  void drop_pages() const;

 private:
  void read_floats(const CodedRow& row, float* out) const;
  void pack(const CodedRow& row, std::byte* out) const;

  CodedMatrix matrix_;
  std::function<void(int64_t row, float* out)> compute_ = {};  ///< in place of codes
  const Format* format_;
};

}  // namespace fewbits
