#pragma once

#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/json.h"
#include "files/tensor_store.h"

// What the readers of layouts share: the tensors of a folder by name and type, as numbers.
namespace fewbits {

/// A tensor of a folder, whatever its type.
struct Part {
  std::string name;
  std::string dtype;
  Shape shape;
  FilePart place;

  /// Sizes of a matrix; a vector is one column, a scalar one value.
  int64_t rows() const { return shape.empty() ? 1 : shape.front(); }
  int64_t columns() const { return shape.size() < 2 ? 1 : shape[1]; }
  int64_t values() const { return rows() * columns(); }
  const uint8_t* bytes() const { return reinterpret_cast<const uint8_t*>(place.bytes.data()); }
};

class Parts {
 public:
  /// `config`: the "quantization_config". Both outlive this.
  Parts(const TensorStore& store, const Json& config, std::string_view where);

  const Json& config() const { return config_; }
  std::string_view where() const { return where_; }
  /// By name.
  const std::map<std::string, Part>& all() const { return parts_; }

  /// Null where there is none. The tensor counts as a part of something from now on.
  const Part* find(const std::string& name);
  /// Throws Error where it is missing, of another type or of more than two sizes.
  const Part& need(const std::string& name, std::initializer_list<std::string_view> dtypes);
  /// Throws Error where a tensor that is there has another shape.
  void demand_shape(const Part& part, const Shape& shape) const;
  [[noreturn]] void fail(const Part& part, const std::string& what) const;

  /// Leaves a tensor out: nobody here needs it.
  void ignore(const std::string& name) { used_.insert(name); }
  const std::unordered_set<std::string>& used() const { return used_; }

 private:
  const Json& config_;
  std::string_view where_;
  std::map<std::string, Part> parts_;
  std::unordered_set<std::string> used_;
};

/// A value of a tensor of floats: F32, F16, BF16, F8_E4M3 or F8_E8M0.
using FloatReader = float (*)(const uint8_t* bytes, int64_t index);
/// Throws Error where the type is none of them.
FloatReader float_reader(const Parts& parts, const Part& part);

/// Bits [at, at + bits) of a stream of 32-bit words, lowest first. REQUIRES: bits up to 8.
inline uint8_t bits_at(const uint8_t* bytes, int64_t at, int bits) {
  // A byte and, only where the code goes on, the next one.
  const int64_t byte = at / 8;
  const int shift = static_cast<int>(at % 8);
  unsigned value = static_cast<unsigned>(bytes[byte]) >> shift;
  if (shift + bits > 8) value |= static_cast<unsigned>(bytes[byte + 1]) << (8 - shift);
  return static_cast<uint8_t>(value & ((1u << bits) - 1));
}

/// Integers of that many bits, the lowest first.
std::span<const float> signed_levels(int bits);
std::span<const float> unsigned_levels(int bits);

/// Values that share a grid where a row of `columns` has `groups` of them: one of `wanted` (sizes
/// of groups from the config) if that is so, else equal parts; 0: neither.
int64_t group_size(int64_t columns, int64_t groups, std::span<const int64_t> wanted);

/// Group of each column as a tensor of I32 says it; empty where groups are consecutive, or where
/// the tensor says nothing (-1). Throws Error where one is outside.
std::vector<int32_t> column_groups(const Parts& parts, const Part& indices,
                                   const CodedMatrix& matrix);

}  // namespace fewbits
