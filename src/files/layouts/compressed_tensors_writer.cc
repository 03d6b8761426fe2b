#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "files/layouts/compressed_tensors.h"
#include "formats/fp8_tiles.h"
#include "formats/small_floats.h"

namespace fewbits {
namespace {

enum class Kind { kNone, kPackedInts, kInt8, kFloat8, kNvfp4, kMxfp4 };

Inputs usual_inputs(const Format& format) {
  const bool bytes = format.name.starts_with("int8_channel") || format.name.starts_with("fp8");
  return bytes ? Inputs::kDynamic : Inputs::kFloats;
}

Inputs inputs_of(const FolderScheme& scheme) {
  return scheme.inputs.value_or(usual_inputs(scheme.format));
}

Kind kind_of(const FolderScheme& scheme) {
  const Format& format = scheme.format;
  const std::string_view name = format.name;
  if (name == "nvfp4_tensor") return Kind::kNvfp4;
  if (name == "MXFP4") return Kind::kMxfp4;
  if (name == "fp8_e4m3_b128" || name == "fp8_e4m3" || name == "fp8_e4m3_channel")
    return Kind::kFloat8;
  if (!name.starts_with("int") || format.sharing == Sharing::kTensor) return Kind::kNone;
  const bool bytes = name.starts_with("int8_channel") && inputs_of(scheme) != Inputs::kFloats;
  return bytes ? Kind::kInt8 : Kind::kPackedInts;
}

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::kInt8:
      return "int-quantized";
    case Kind::kFloat8:
      return "float-quantized";
    case Kind::kNvfp4:
      return "nvfp4-pack-quantized";
    case Kind::kMxfp4:
      return "mxfp4-pack-quantized";
    default:
      return "pack-quantized";
  }
}

int bits_of(const Format& format) {
  return static_cast<int>(std::bit_width(format.levels.size() - 1));
}

bool has_zeros(const Format& format) {
  return format.name.ends_with("_asym");
}

/// How the inputs of a layer are to be quantized.
Json inputs_config(const FolderScheme& scheme) {
  const Inputs inputs = inputs_of(scheme);
  const Kind kind = kind_of(scheme);
  if (inputs == Inputs::kFloats) return nullptr;
  if (kind == Kind::kNvfp4) {
    return {{"num_bits", 4},
            {"type", "float"},
            {"symmetric", true},
            {"strategy", "tensor_group"},
            {"group_size", scheme.format.sub_block_values},
            {"dynamic", "local"}};
  }
  Json config = {{"num_bits", 8},
                 {"type", kind == Kind::kFloat8 ? "float" : "int"},
                 {"symmetric", true},
                 {"strategy", inputs == Inputs::kStatic ? "tensor" : "token"},
                 {"dynamic", inputs == Inputs::kDynamic}};
  if (tile_rows(scheme.format) > 1) {
    config["strategy"] = "group";
    config["group_size"] = kTileSize;
  }
  return config;
}

/// The part of the folder that says what the inputs were in calibration.
const char* input_scale_name(Kind kind) {
  return kind == Kind::kNvfp4 ? ".input_global_scale" : ".input_scale";
}

float input_scale(Kind kind, float largest) {
  constexpr float kMostInt8 = 127;
  using small_floats::E2M1, small_floats::E4M3;
  if (kind == Kind::kNvfp4) return 1 / scale_to(largest, E2M1::kLargest * E4M3::kLargest);
  return scale_to(largest, kind == Kind::kInt8 ? kMostInt8 : E4M3::kLargest);
}

/// Appends codes of `bits` bits, lowest first, without gaps.
void pack_dense(const uint8_t* codes, int64_t count, int bits, std::byte* out) {
  uint32_t open = 0;
  int filled = 0;
  for (int64_t i = 0; i < count; ++i) {
    open |= static_cast<uint32_t>(codes[i]) << filled;
    for (filled += bits; filled >= 8; filled -= 8, open >>= 8)
      *out++ = static_cast<std::byte>(open & 0xff);
  }
  if (filled > 0) *out = static_cast<std::byte>(open & 0xff);
}

template <class Value>
void append_value(Value value, std::vector<std::byte>& out) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

}  // namespace

bool compressed_tensors_holds(const Format& format) {
  return kind_of({format}) != Kind::kNone;
}

bool compressed_tensors_says(const Format& format, Inputs inputs) {
  const Kind kind = kind_of({format});
  if (inputs == usual_inputs(format)) return true;
  if (tile_rows(format) > 1)
    return false;  // kernels want scales of groups, which are of each token
  // Packed integers with inputs in int8: W4A8.
  if (kind == Kind::kPackedInts && inputs == Inputs::kDynamic)
    return bits_of(format) >= 4 && !has_zeros(format);
  return kind == Kind::kInt8 || kind == Kind::kFloat8 ||
         (kind == Kind::kNvfp4 && inputs == Inputs::kStatic);
}

bool compressed_tensors_thins(const Format& format) {
  const std::string_view name = format.name;
  return name == "fp8_e4m3" || name == "fp8_e4m3_channel" || name == "int8_channel";
}

Json compressed_tensors_config(const FolderScheme& scheme,
                               const std::vector<std::string>& ignored) {
  const Format& format = scheme.format;
  const Kind kind = kind_of(scheme);
  const bool floats = kind == Kind::kFloat8 || kind == Kind::kNvfp4 || kind == Kind::kMxfp4;
  const bool tiles = tile_rows(format) > 1;
  const bool grouped = format.sub_block_values > 1 && format.sharing == Sharing::kBlock;
  Json weights = {{"num_bits", bits_of(format)},
                  {"type", floats ? "float" : "int"},
                  {"symmetric", !has_zeros(format)},
                  {"strategy", tiles                                ? "block"
                               : grouped                            ? "group"
                               : kind == Kind::kNvfp4               ? "tensor_group"
                               : format.sharing == Sharing::kTensor ? "tensor"
                                                                    : "channel"},
                  {"dynamic", false}};
  if (tiles) {
    weights["block_structure"] = {kTileSize, kTileSize};
  } else if (grouped || kind == Kind::kNvfp4)
    weights["group_size"] = format.sub_block_values;
  if (scheme.by_use) weights["actorder"] = "group";
  const Json group = {{"targets", {"Linear"}},
                      {"weights", weights},
                      {"input_activations", inputs_config(scheme)},
                      {"output_activations", nullptr},
                      {"format", name_of(kind)}};
  Json config = {{"quant_method", "compressed-tensors"},
                 {"format", name_of(kind)},
                 {"quantization_status", "compressed"},
                 {"config_groups", {{"group_0", group}}},
                 {"ignore", ignored},
                 {"kv_cache_scheme", nullptr}};
  if (scheme.sparse) {
    config["sparsity_config"] = {{"format", "sparse-24-bitmask"},
                                 {"global_sparsity", 0.5},
                                 {"ignore", ignored},
                                 {"registry_requires_subclass", false},
                                 {"sparsity_structure", "2:4"},
                                 {"targets", {"Linear"}}};
  }
  if (scheme.kv_scales) {
    config["kv_cache_scheme"] = {{"num_bits", 8},
                                 {"type", "float"},
                                 {"symmetric", true},
                                 {"strategy", "tensor"},
                                 {"dynamic", false}};
  }
  return config;
}

CompressedTensor::CompressedTensor(const FolderScheme& scheme, std::string module, int64_t rows,
                                   int64_t columns)
    : scheme_(scheme),
      format_(scheme.format),
      module_(std::move(module)),
      rows_(rows),
      columns_(columns) {
  check(compressed_tensors_holds(format_) && columns % format_.block_values == 0);
  if (scheme.sparse && columns % 4 != 0) {
    throw Error(
        fmt::format("{}: rows of {} are no whole fours, as --sparse wants", module_, columns));
  }
}

int64_t CompressedTensor::scales_of_row() const {
  const bool own = format_.sharing == Sharing::kBlock || kind_of(scheme_) == Kind::kNvfp4;
  return own ? columns_ / format_.sub_block_values : 1;
}

int64_t CompressedTensor::codes_bytes() const {
  if (scheme_.sparse) return columns_ / 2;
  const int64_t bytes = divide_up(columns_ * bits_of(format_), int64_t{8});
  return kind_of(scheme_) == Kind::kPackedInts ? round_up(bytes, int64_t{4}) : bytes;
}

std::vector<SafetensorsEntry> CompressedTensor::entries() const {
  std::vector<SafetensorsEntry> all = weight_entries();
  if (scheme_.sparse) {
    const int64_t mask = divide_up(columns_, int64_t{8});
    all.front() = {
        module_ + ".compressed", all.front().dtype, {rows_, columns_ / 2}, rows_ * columns_ / 2};
    all.push_back({module_ + ".bitmask", "U8", {rows_, mask}, rows_ * mask});
    all.push_back({module_ + ".shape", "I64", {2, 1}, 16});
  }
  if (scheme_.by_use) all.push_back({module_ + ".weight_g_idx", "I32", {columns_}, columns_ * 4});
  if (inputs_of(scheme_) == Inputs::kStatic)
    all.push_back({module_ + input_scale_name(kind_of(scheme_)), "F32", {1}, 4});
  return all;
}

std::vector<SafetensorsEntry> CompressedTensor::weight_entries() const {
  const Kind kind = kind_of(scheme_);
  const int64_t groups = scales_of_row(), width = codes_bytes();
  const auto entry = [&](const char* suffix, const char* dtype, Shape shape, int64_t size) {
    int64_t bytes = size;
    for (const int64_t extent : shape) bytes *= extent;
    return SafetensorsEntry{module_ + suffix, dtype, std::move(shape), bytes};
  };
  switch (kind) {
    case Kind::kInt8: {
      std::vector<SafetensorsEntry> all = {entry(".weight", "I8", {rows_, columns_}, 1),
                                           entry(".weight_scale", "F32", {rows_, 1}, 4)};
      if (has_zeros(format_)) all.push_back(entry(".weight_zero_point", "I8", {rows_, 1}, 1));
      return all;
    }
    case Kind::kFloat8: {
      const bool tensor = format_.sharing == Sharing::kTensor;
      return {entry(".weight", "F8_E4M3", {rows_, columns_}, 1),
              entry(".weight_scale", "F32", tensor ? Shape{1} : Shape{rows_, 1}, 4)};
    }
    case Kind::kNvfp4:
      return {entry(".weight_packed", "U8", {rows_, width}, 1),
              entry(".weight_scale", "F8_E4M3", {rows_, groups}, 1),
              entry(".weight_global_scale", "F32", {1}, 4)};
    case Kind::kMxfp4:
      return {entry(".weight_packed", "U8", {rows_, width}, 1),
              entry(".weight_scale", "U8", {rows_, groups}, 1)};
    default: {
      const bool halves = format_.sharing == Sharing::kBlock;
      std::vector<SafetensorsEntry> all = {
          entry(".weight_packed", "I32", {rows_, width / 4}, 4),
          entry(".weight_scale", halves ? "F16" : "F32", {rows_, groups}, halves ? 2 : 4),
          entry(".weight_shape", "I64", {2}, 8)};
      const int64_t words = divide_up(rows_ * bits_of(format_), int64_t{32});
      if (has_zeros(format_)) all.push_back(entry(".weight_zero_point", "I32", {words, groups}, 4));
      return all;
    }
  }
}

std::span<const std::byte> CompressedTensor::append_rows(std::span<const std::byte> bytes) {
  const int64_t stride = row_bytes(format_, columns_);
  const int64_t count = std::ssize(bytes) / stride, width = codes_bytes();
  band_.assign(static_cast<size_t>(count * width), std::byte{0});
  for (int64_t row = 0; row < count; ++row)
    append_row(bytes.data() + row * stride, band_.data() + row * width);
  return band_;
}

void CompressedTensor::append_row(const std::byte* row, std::byte* out) {
  const Kind kind = kind_of(scheme_);
  BlockParameters parameters;
  if (format_.outer_bytes >= 4) std::memcpy(&parameters.outer.scale, row, 4);
  if (format_.outer_bytes >= 8) std::memcpy(&parameters.outer.zero, row + 4, 4);
  outer_scale_ = parameters.outer.scale;
  row += format_.outer_bytes;
  std::vector<uint8_t> codes(static_cast<size_t>(columns_));
  for (int64_t i = 0; i < columns_; i += format_.block_values, row += format_.block_bytes) {
    format_.unpack(row, parameters, codes.data() + i);
    if (format_.sharing == Sharing::kBlock || kind == Kind::kNvfp4) keep_parameters(parameters);
  }
  if (format_.sharing == Sharing::kRow) keep_parameters(parameters);
  if (!columns_by_use_.empty()) {
    std::vector<uint8_t> in_place(codes.size());
    for (int64_t i = 0; i < columns_; ++i)
      in_place[static_cast<size_t>(column_of(i))] = codes[static_cast<size_t>(i)];
    codes = std::move(in_place);
  }
  if (kind == Kind::kInt8) {
    for (uint8_t& code : codes) code ^= 0x80;  // from what is added to the lowest level to int8
  }
  if (scheme_.sparse) return append_half(codes.data(), out);
  pack_dense(codes.data(), columns_, bits_of(format_), out);
}

/// Of each four codes those that are not 0, and as many zeros as make two.
void CompressedTensor::append_half(const uint8_t* codes, std::byte* out) {
  std::vector<std::byte> mask(static_cast<size_t>(divide_up(columns_, int64_t{8})));
  for (int64_t i = 0; i < columns_; i += 4) {
    int zeros = 0;  // that are left out
    for (int64_t j = i; j < i + 4; ++j) {
      if (codes[j] == 0 && zeros < 2) {
        ++zeros;
        continue;
      }
      mask[static_cast<size_t>(j / 8)] |= static_cast<std::byte>(1 << (j % 8));
      *out++ = static_cast<std::byte>(codes[j]);
    }
    check(zeros == 2);
  }
  mask_.insert(mask_.end(), mask.begin(), mask.end());
}

void CompressedTensor::keep_parameters(const BlockParameters& parameters) {
  switch (kind_of(scheme_)) {
    case Kind::kNvfp4:
      return append_value(parameters.sub_scale[0], scales_);
    case Kind::kMxfp4:
      return append_value(static_cast<uint8_t>(parameters.scale), scales_);
    default:
      break;
  }
  if (format_.sharing == Sharing::kRow) {
    append_value(parameters.outer.scale, scales_);
    zeros_.push_back(static_cast<uint8_t>(parameters.outer.zero));
  } else {
    append_value(parameters.scale, scales_);
    zeros_.push_back(parameters.sub_minimum[0]);
  }
}

std::vector<std::byte> CompressedTensor::rest() {
  const Kind kind = kind_of(scheme_);
  std::vector<std::byte> out = scales_;
  if (kind == Kind::kNvfp4) append_value(1 / outer_scale_, out);  // a power of two: exact
  if (kind == Kind::kFloat8 && format_.sharing == Sharing::kTensor) append_value(outer_scale_, out);
  if (kind == Kind::kPackedInts) {
    append_value(rows_, out);
    append_value(columns_, out);
  }
  if (has_zeros(format_)) append_zeros(out);
  if (scheme_.sparse) {
    out.insert(out.end(), mask_.begin(), mask_.end());
    append_value(rows_, out);
    append_value(columns_, out);
  }
  if (scheme_.by_use) {
    for (const int32_t group : groups_of_columns(columns_, format_.sub_block_values))
      append_value(group, out);
  }
  if (inputs_of(scheme_) == Inputs::kStatic) append_value(input_scale(kind, largest_input_), out);
  return out;
}

void CompressedTensor::append_zeros(std::vector<std::byte>& out) const {
  if (kind_of(scheme_) == Kind::kInt8) {
    for (const uint8_t zero : zeros_) append_value(static_cast<uint8_t>(zero ^ 0x80), out);
    return;
  }
  // Packed along the rows: word w of group g has the rows whose bits begin there.
  const int64_t groups = scales_of_row(), bits = bits_of(format_);
  const int64_t words = divide_up(rows_ * bits, int64_t{32});
  const size_t begin = out.size();
  out.resize(begin + static_cast<size_t>(words * groups * 4));
  std::vector<uint8_t> column(static_cast<size_t>(rows_));
  std::vector<std::byte> packed(static_cast<size_t>(words * 4));
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t r = 0; r < rows_; ++r)
      column[static_cast<size_t>(r)] = zeros_[static_cast<size_t>(r * groups + g)];
    std::fill(packed.begin(), packed.end(), std::byte{0});
    pack_dense(column.data(), rows_, static_cast<int>(bits), packed.data());
    for (int64_t w = 0; w < words; ++w) {
      std::memcpy(out.data() + begin + static_cast<size_t>((w * groups + g) * 4),
                  packed.data() + 4 * w, 4);
    }
  }
}

}  // namespace fewbits
