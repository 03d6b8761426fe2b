#include "kernels/kv_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <random>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/half.h"
#include "base/text.h"
#include "kernels/lloyd_max.h"

namespace fewbits {
namespace {

constexpr KvFormat turbo(std::string_view name, int bits) {
  return {.name = name,
          .codes = KvCodes::kLevels,
          .bits = bits,
          .key_scales = KvScales::kToken,
          .value_scales = KvScales::kToken,
          .key_rule = KvRule::kUnbiased,
          .value_rule = KvRule::kLeastSquares,
          .rotated = true};
}

constexpr KvFormat qjl(std::string_view name, int bits) {
  KvFormat format = turbo(name, bits);
  format.key_rule = KvRule::kProjected;
  format.for_values = false;
  return format;
}

constexpr KvFormat kivi(std::string_view name, int bits) {
  return {.name = name,
          .codes = KvCodes::kLevels,
          .bits = bits,
          .key_scales = KvScales::kChannelMinimum,
          .value_scales = KvScales::kBlockMinimum,
          .key_rule = KvRule::kRange,
          .value_rule = KvRule::kRange};
}

constexpr KvFormat plain(std::string_view name, KvCodes codes, int bits) {
  return {.name = name,
          .codes = codes,
          .bits = bits,
          .key_scales = KvScales::kNone,
          .value_scales = KvScales::kNone,
          .key_rule = KvRule::kFloat,
          .value_rule = KvRule::kFloat};
}

constexpr KvFormat blocks(std::string_view name, KvCodes codes, int bits, KvRule rule) {
  return {.name = name,
          .codes = codes,
          .bits = bits,
          .key_scales = KvScales::kBlock,
          .value_scales = KvScales::kBlock,
          .key_rule = rule,
          .value_rule = rule};
}

constexpr KvFormat kFormats[] = {
    plain("bf16", KvCodes::kBfloat, 16),
    plain("f16", KvCodes::kHalf, 16),
    plain("fp8", KvCodes::kFloat8, 8),
    kivi("kivi2", 2),
    kivi("kivi4", 4),
    blocks("q4_0", KvCodes::kLevels, 4, KvRule::kLargestSigned),
    blocks("q8_0", KvCodes::kSigned8, 8, KvRule::kLargest),
    qjl("qjl2", 2),
    qjl("qjl3", 3),
    qjl("qjl4", 4),
    turbo("turbo2", 2),
    turbo("turbo3", 3),
    turbo("turbo4", 4),
};

constexpr uint32_t kProjectionSeed = 20250428;

/// E4M3: a float's bits with the exponent moved, rounded to nearest even, at most 448.
uint8_t float8_from_float(float value) {
  const uint32_t sign = (std::bit_cast<uint32_t>(value) >> 24) & 0x80u;
  const float magnitude = std::min(std::fabs(value), 448.0f) * 0x1p-120f;
  const uint32_t bits = std::bit_cast<uint32_t>(magnitude);
  return static_cast<uint8_t>(sign | ((bits + 0x7ffffu + ((bits >> 20) & 1u)) >> 20));
}

/// `value` as it is stored, which is never infinite.
float stored(float value) {
  return half_to_float(half_from_float(std::clamp(value, -65504.0f, 65504.0f)));
}

float dot(const float* a, const float* b, int64_t count) {
  return std::inner_product(a, a + count, b, 0.0f);
}

}  // namespace

std::span<const KvFormat> kv_formats() {
  return kFormats;
}

const KvFormat& kv_format_named(std::string_view name) {
  std::vector<std::string> known;
  for (const KvFormat& format : kFormats) {
    if (format.name == name) return format;
    known.emplace_back(format.name);
  }
  throw Error(unknown_name(name, "cache format", known));
}

/// Codes of one part of a chunk before they are packed: [32][width], with their parameters as they
/// will be stored.
class KvCodec::Encoder {
 public:
  Encoder(const KvPart& part, int64_t dims, int64_t width)
      : part_(part),
        dims_(dims),
        width_(width),
        level_count_(part.codes == KvCodes::kLevels ? 1 << part.bits : 0),
        codes_(static_cast<size_t>(kKvChunk * width)),
        scales_(static_cast<size_t>(part.scale_count)),
        minimums_(part.has_minimums ? scales_.size() : 0) {}

  void encode(KvRule rule, const float* rows) {
    switch (rule) {
      case KvRule::kFloat:
        return each_value(rows, [this](float x) { return float_code(x); });
      case KvRule::kLargest:
      case KvRule::kLargestSigned:
        return blocks(rows, rule == KvRule::kLargestSigned);
      case KvRule::kRange:
        return ranges(rows);
      default:
        return levels(rule, rows);
    }
  }

  /// Codes of unit coordinates of each token, and the scale that `rule` gives it.
  void levels(KvRule rule, const float* rows) {
    std::vector<float> unit(static_cast<size_t>(dims_)), level(unit.size());
    for (int64_t t = 0; t < kKvChunk; ++t) {
      const float* row = rows + t * dims_;
      const float length = std::sqrt(dot(row, row, dims_));
      const float to_unit = length > 0 ? std::sqrt(static_cast<float>(dims_)) / length : 0;
      std::transform(row, row + dims_, unit.begin(), [&](float x) { return x * to_unit; });
      uint16_t* codes = codes_.data() + t * width_;
      nearest_levels(unit.data(), codes);
      for (int64_t d = 0; d < dims_; ++d) {
        level[static_cast<size_t>(d)] = part_.levels[codes[d]];
      }
      set_scale(t, scale_of(rule, row, level.data(), length));
    }
  }

  /// Signs of each row of `rows`, with scales of their own.
  void signs(const float* rows, const std::vector<float>& scales) {
    for (int64_t t = 0; t < kKvChunk; ++t) {
      nearest_levels(rows + t * dims_, codes_.data() + t * width_);
      set_scale(t, scales[static_cast<size_t>(t)]);
    }
  }

  /// What was coded of token `t`, in the units of its scale.
  float level(int64_t t, int64_t d) const {
    return part_.levels[codes_[static_cast<size_t>(t * width_ + d)]];
  }
  float scale(int64_t t) const { return half_to_float(scales_[static_cast<size_t>(t)]); }

  void pack(KvRole role, uint8_t* out) const {
    const auto parameters = [&](const std::vector<uint16_t>& halves) {
      if (halves.empty()) return;
      std::memcpy(out, halves.data(), halves.size() * 2);
      out += halves.size() * 2;
    };
    parameters(scales_);
    parameters(minimums_);
    if (role == KvRole::kValue) {
      return pack_matrix(
          kKvChunk, width_,
          [&](int64_t row, int64_t lane) {
            return codes_[static_cast<size_t>(row * width_ + lane)];
          },
          out);
    }
    for (int64_t group = 0; group < kKvChunk / 16; ++group) {
      pack_matrix(
          width_, 16,
          [&](int64_t row, int64_t lane) {
            return codes_[static_cast<size_t>((group * 16 + lane) * width_ + row)];
          },
          out + group * part_.code_bytes / 2);
    }
  }

 private:
  template <class Code>
  void each_value(const float* rows, Code code) {
    for (int64_t t = 0; t < kKvChunk; ++t) {
      for (int64_t d = 0; d < dims_; ++d) {
        codes_[static_cast<size_t>(t * width_ + d)] = code(rows[t * dims_ + d]);
      }
    }
  }

  uint16_t float_code(float x) const {
    if (part_.codes == KvCodes::kHalf) return half_from_float(x);
    return part_.codes == KvCodes::kBfloat ? bfloat16_from_float(x) : float8_from_float(x);
  }

  void set_scale(int64_t index, float scale) {
    scales_[static_cast<size_t>(index)] = half_from_float(std::clamp(scale, -65504.0f, 65504.0f));
  }

  float scale_of(KvRule rule, const float* row, const float* level, float length) const {
    const float inner = dot(row, level, dims_);
    const auto ratio = [](float a, float b) { return b > 0 ? a / b : 0; };
    if (rule == KvRule::kUnbiased) return ratio(length * length, inner);
    if (rule == KvRule::kLeastSquares) return ratio(inner, dot(level, level, dims_));
    return length / std::sqrt(static_cast<float>(dims_));
  }

  /// The number of thresholds below each value.
  void nearest_levels(const float* x, uint16_t* codes) const {
    std::fill_n(codes, dims_, uint16_t{0});
    for (int i = 1; i < level_count_; ++i) {
      const float threshold = 0.5f * (part_.levels[i - 1] + part_.levels[i]);
      for (int64_t d = 0; d < dims_; ++d) {
        codes[d] = static_cast<uint16_t>(codes[d] + (x[d] > threshold ? 1 : 0));
      }
    }
  }

  /// Blocks of 32 with the scale of the largest: of either sign where the lowest level is reached,
  /// as in Q4_0.
  void blocks(const float* rows, bool signed_largest) {
    for (int64_t index = 0; index < part_.scale_count; ++index) {
      const int64_t t = index % kKvChunk, begin = index / kKvChunk * kKvBlock;
      const int64_t count = std::min(kKvBlock, dims_ - begin);
      const float* x = rows + t * dims_ + begin;
      const float largest = *std::max_element(
          x, x + count, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
      set_scale(index, signed_largest ? largest / -8 : std::fabs(largest) / 127);
      const float scale = half_to_float(scales_[static_cast<size_t>(index)]);
      const float inverse = scale != 0 ? 1 / scale : 0;
      uint16_t* codes = codes_.data() + t * width_ + begin;
      for (int64_t d = 0; d < count; ++d) {
        const float level = std::nearbyint(x[d] * inverse);
        codes[d] = signed_largest ? static_cast<uint16_t>(std::clamp(level, -8.0f, 7.0f) + 8)
                                  : signed_code(level);
      }
    }
  }

  static uint16_t signed_code(float level) {
    const auto code = static_cast<int8_t>(std::clamp(level, -127.0f, 127.0f));
    return static_cast<uint8_t>(code);
  }

  /// Minimum and step of `count` values that lie `stride` apart.
  struct Range {
    const float* x;
    int64_t count, stride;
    uint16_t* codes;
    int64_t code_stride;
  };

  void range(int64_t index, const Range& of) {
    float low = of.x[0], high = of.x[0];
    for (int64_t i = 1; i < of.count; ++i) {
      low = std::min(low, of.x[i * of.stride]);
      high = std::max(high, of.x[i * of.stride]);
    }
    const auto steps = static_cast<float>(level_count_ - 1);
    const float minimum = stored(low);
    set_scale(index, (high - minimum) / steps);
    minimums_[static_cast<size_t>(index)] = half_from_float(minimum);
    const float step = half_to_float(scales_[static_cast<size_t>(index)]);
    const float inverse = step > 0 ? 1 / step : 0;
    for (int64_t i = 0; i < of.count; ++i) {
      const float level = std::nearbyint((of.x[i * of.stride] - minimum) * inverse);
      of.codes[i * of.code_stride] = static_cast<uint16_t>(std::clamp(level, 0.0f, steps));
    }
  }

  void ranges(const float* rows) {
    if (part_.scales == KvScales::kChannelMinimum) {
      for (int64_t d = 0; d < dims_; ++d) {
        range(d, {rows + d, kKvChunk, dims_, codes_.data() + d, width_});
      }
      return;
    }
    for (int64_t index = 0; index < part_.scale_count; ++index) {
      const int64_t t = index % kKvChunk, begin = index / kKvChunk * kKvBlock;
      range(index, {rows + t * dims_ + begin, std::min(kKvBlock, dims_ - begin), 1,
                    codes_.data() + t * width_ + begin, 1});
    }
  }

  template <class Code>
  void pack_matrix(int64_t rows, int64_t lanes, const Code& code, uint8_t* out) const {
    const int bits = part_.bits;
    const int plane_bits = bits == 3 ? 2 : std::min(bits, 8);
    pack_plane({rows, lanes, 0, plane_bits}, code, out);
    if (bits == 3) pack_plane({rows, lanes, 2, 1}, code, out + rows * lanes / 4);
  }

  struct Plane {
    int64_t rows, lanes;
    int first_bit, bits;
  };

  template <class Code>
  void pack_plane(const Plane& plane, const Code& code, uint8_t* out) const {
    if (part_.bits == 16) {
      for (int64_t i = 0; i < plane.rows * plane.lanes; ++i) {
        const uint16_t value = code(i / plane.lanes, i % plane.lanes);
        std::memcpy(out + 2 * i, &value, sizeof value);
      }
      return;
    }
    const int64_t rows_per_byte = 8 / plane.bits;
    const unsigned mask = (1u << plane.bits) - 1;
    for (int64_t row = 0; row < plane.rows; row += rows_per_byte) {
      for (int64_t lane = 0; lane < plane.lanes; ++lane) {
        unsigned byte = 0;
        for (int64_t i = 0; i < rows_per_byte; ++i) {
          byte |= ((code(row + i, lane) >> plane.first_bit) & mask) << (i * plane.bits);
        }
        *out++ = static_cast<uint8_t>(byte);
      }
    }
  }

  const KvPart& part_;
  int64_t dims_, width_;
  int level_count_;
  std::vector<uint16_t> codes_;
  std::vector<uint16_t> scales_, minimums_;
};

KvCodec::KvCodec(const KvFormat& format, KvRole role, int64_t dims)
    : format_(&format), role_(role), dims_(dims), width_(round_up(dims, kKvBlock)) {
  if (role == KvRole::kValue && !format.for_values) {
    throw Error(fmt::format("cache format {} is for keys alone", format.name));
  }
  if (width_ > kKvWidestHead || (format.rotated && dims < 8)) {
    throw Error(fmt::format("cache format {} is not for heads of {} dimensions: use f16",
                            format.name, dims));
  }
  const bool projected = role == KvRole::kKey && format.key_rule == KvRule::kProjected;
  add_part(format.codes, format.bits - (projected ? 1 : 0),
           role == KvRole::kKey ? format.key_scales : format.value_scales);
  if (!projected) return;
  add_part(KvCodes::kLevels, 1, KvScales::kToken);
  parts_.back().levels[0] = -1;
  parts_.back().levels[1] = 1;
  std::mt19937 random(kProjectionSeed);
  std::normal_distribution<float> normal;
  projection_.resize(static_cast<size_t>(dims * dims));
  for (float& value : projection_) value = normal(random);
}

void KvCodec::add_part(KvCodes codes, int bits, KvScales scales) {
  KvPart part{.codes = codes, .scales = scales, .bits = bits};
  part.has_minimums = scales == KvScales::kBlockMinimum || scales == KvScales::kChannelMinimum;
  if (scales == KvScales::kToken) part.scale_count = kKvChunk;
  if (scales == KvScales::kChannelMinimum) part.scale_count = width_;
  if (scales == KvScales::kBlock || scales == KvScales::kBlockMinimum) {
    part.scale_count = width_ / kKvBlock * kKvChunk;
  }
  part.parameter_bytes = part.scale_count * (part.has_minimums ? 4 : 2);
  part.code_bytes = kKvChunk * width_ * bits / 8;
  if (format_->rotated) {
    std::ranges::transform(lloyd_max_levels(bits, dims_), part.levels,
                           [](double level) { return static_cast<float>(level); });
  } else {
    const bool zero_in_the_middle = format_->key_rule == KvRule::kLargestSigned;
    for (int i = 0; i < 16; ++i) {
      part.levels[i] = static_cast<float>(zero_in_the_middle ? i - 8 : i);
    }
  }
  chunk_bytes_ += part.parameter_bytes + part.code_bytes;
  parts_.push_back(part);
}

void KvCodec::encode(const float* rows, uint8_t* chunk) const {
  const bool projected = parts_.size() == 2;
  KvRule rule = role_ == KvRole::kKey ? format_->key_rule : format_->value_rule;
  if (projected) rule = KvRule::kLength;
  Encoder encoder(parts_[0], dims_, width_);
  encoder.encode(rule, rows);
  encoder.pack(role_, chunk);
  if (!projected) return;
  // r is what the first part left of the token, as it is; then |r| sqrt(pi / 2) / n is the scale.
  std::vector<float> rest(static_cast<size_t>(dims_)), scales(static_cast<size_t>(kKvChunk));
  std::vector<float> projected_rows(static_cast<size_t>(kKvChunk * dims_));
  const float factor =
      std::sqrt(static_cast<float>(std::numbers::pi) / 2) / static_cast<float>(dims_);
  for (int64_t t = 0; t < kKvChunk; ++t) {
    for (int64_t d = 0; d < dims_; ++d) {
      rest[static_cast<size_t>(d)] = rows[t * dims_ + d] - encoder.scale(t) * encoder.level(t, d);
    }
    scales[static_cast<size_t>(t)] = std::sqrt(dot(rest.data(), rest.data(), dims_)) * factor;
    for (int64_t i = 0; i < dims_; ++i) {
      projected_rows[static_cast<size_t>(t * dims_ + i)] =
          dot(projection_.data() + i * dims_, rest.data(), dims_);
    }
  }
  Encoder signs(parts_[1], dims_, width_);
  signs.signs(projected_rows.data(), scales);
  signs.pack(role_, chunk + parts_[0].parameter_bytes + parts_[0].code_bytes);
}

void KvCodec::extend_query(float* query) const {
  std::fill(query + dims_, query + depth(), 0.0f);
  if (projection_.empty()) return;
  for (int64_t i = 0; i < dims_; ++i) {
    query[width_ + i] = dot(projection_.data() + i * dims_, query, dims_);
  }
}

}  // namespace fewbits
