#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kv_layout.h"

// How keys and values are coded in a cache. A format is a row of the table in kv_codec.cc: what a
// value's code means, what shares a scale, and how the scale is chosen. Kernels read the layout
// that follows from it (kv_layout.h) and know no format by name.
//
//   f16 bf16     the upper bits of a float
//   fp8          E4M3, no scale: up to 448
//   q8_0 q4_0    blocks of 32 with the scale of the block's largest
//   turbo2..4    rotated heads of unit length by the best levels for one coordinate (TurboQuant,
//                arXiv 2504.19874), of 2 to 4 bits, with one scale for each token. That of keys
//                makes inner products unbiased (EDEN, arXiv 2108.08842): |x|^2 / <x, c>; that of
//                values makes the squared error least: <x, c> / <c, c>
//   qjl2..4      keys of the paper's form for inner products: one bit less, and a bit for the sign
//                of a random projection of what is left
//   kivi2 kivi4  minimum and step, of keys for each channel of 32 tokens, of values for each
//   token's
//                32 dimensions (KIVI, arXiv 2402.02750)
namespace fewbits {

enum class KvRole : uint8_t { kKey, kValue };

/// Ways to find scales and codes.
enum class KvRule : uint8_t {
  kFloat,
  kLargest,
  kLargestSigned,
  kRange,
  kUnbiased,
  kLeastSquares,
  kLength,
  kProjected
};

struct KvFormat {
  std::string_view name;
  KvCodes codes;
  int bits;  ///< of a value, without scales
  KvScales key_scales, value_scales;
  KvRule key_rule, value_rule;
  bool rotated = false;
  bool for_values = true;
};

std::span<const KvFormat> kv_formats();

/// Throws Error that lists the known ones.
const KvFormat& kv_format_named(std::string_view name);

/// A format at work on heads of `dims` dimensions.
class KvCodec {
 public:
  /// Throws Error where the format is not for such heads.
  KvCodec(const KvFormat& format, KvRole role, int64_t dims);

  const KvFormat& format() const { return *format_; }
  int64_t dims() const { return dims_; }
  KvChunkLayout layout() const {
    return {parts_.data(), static_cast<int64_t>(parts_.size()), width_, chunk_bytes_};
  }
  int64_t chunk_bytes() const { return chunk_bytes_; }
  /// Values of a decoded key: what a query is extended to.
  int64_t depth() const { return static_cast<int64_t>(parts_.size()) * width_; }

  /// `rows` [32][dims]: one head of 32 tokens.
  void encode(const float* rows, uint8_t* chunk) const;

  /// Fills query[dims, depth) with what stands beside the decoded key's values there.
  void extend_query(float* query) const;

 private:
  class Encoder;
  void add_part(KvCodes codes, int bits, KvScales scales);

  const KvFormat* format_;
  KvRole role_;
  int64_t dims_, width_;
  int64_t chunk_bytes_ = 0;
  std::vector<KvPart> parts_;
  std::vector<float> projection_;  ///< [dims][dims], normal, of kProjected
};

}  // namespace fewbits
