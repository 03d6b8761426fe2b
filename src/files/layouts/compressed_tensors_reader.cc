#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "files/layouts/compressed_tensors.h"
#include "files/layouts/eight_bits.h"
#include "files/layouts/layout.h"
#include "formats/fp8_tiles.h"
#include "formats/small_floats.h"

// Reads what compressed_tensors.h describes, and what other versions of the package write: codes
// that do not go over the end of a word (3 bits: ten in each), zero points that are not packed,
// groups in the order of activations (weight_g_idx).
namespace fewbits {

extern const Layout kCompressedTensors;

namespace {

/// Numbers of that name in the "weights" of all "config_groups".
std::vector<int64_t> numbers_in_groups(const Json& config, const char* key) {
  std::vector<int64_t> numbers;
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object()) return numbers;
  for (const Json& group : *groups) {
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (!group.is_object() || weights == group.end() || !weights->is_object()) continue;
    const auto number = weights->find(key);
    if (number != weights->end() && number->is_number_integer())
      numbers.push_back(number->get<int64_t>());
  }
  return numbers;
}

/// Codes in a line of 32-bit words.
struct Packing {
  int bits = 0;
  int per_word = 0;  ///< 0: without gaps

  int64_t words(int64_t codes) const {
    return per_word == 0 ? divide_up(codes * bits, int64_t{32})
                         : divide_up(codes, int64_t{per_word});
  }
  /// Where code `index` begins.
  int64_t bit(int64_t index) const {
    if (per_word == 0) return index * bits;
    return index / per_word * 32 + index % per_word * bits;
  }
};

/// How `codes` fill that many words: as the config says, or as else they can.
Packing packing_of(const Parts& parts, const Part& packed, int64_t codes, int64_t words) {
  std::vector<int64_t> wanted = numbers_in_groups(parts.config(), "num_bits");
  for (const int64_t bits : {4, 8, 3, 2, 6, 5, 7, 1}) wanted.push_back(bits);
  for (const int64_t bits : wanted) {
    if (bits < 1 || bits > 8) continue;
    for (const int per_word : {0, 32 / static_cast<int>(bits)}) {
      const Packing packing{static_cast<int>(bits), per_word};
      if (packing.words(codes) == words) return packing;
    }
  }
  parts.fail(packed, fmt::format("{} codes fill no {} words", codes, words));
}

std::pair<int64_t, int64_t> shape_in(const Parts& parts, const Part& shape, const Part& packed) {
  constexpr int64_t kMost = int64_t{1} << 40;  // keeps products far from overflow
  int64_t sizes[2];
  if (shape.values() != 2) parts.fail(shape, "must have two values");
  std::memcpy(sizes, shape.bytes(), sizeof sizes);
  if (sizes[0] != packed.rows() || sizes[0] < 1 || sizes[1] < 1 || sizes[1] > kMost) {
    parts.fail(shape, fmt::format("says {} x {}, but there are codes of {} rows", sizes[0],
                                  sizes[1], packed.rows()));
  }
  return {sizes[0], sizes[1]};
}

/// Fills in groups, scales and zeros (`zero_of` a row and group; null: none).
void read_scales(Parts& parts, const Part& scale, CodedMatrix& matrix,
                 std::function<float(int64_t row, int64_t group)> zero_of) {
  const int64_t groups = scale.columns();
  matrix.group_values =
      group_size(matrix.columns, groups, numbers_in_groups(parts.config(), "group_size"));
  const bool for_tensor = scale.values() == 1;
  if (matrix.group_values == 0 || (scale.rows() != matrix.rows && !for_tensor)) {
    parts.fail(scale, fmt::format("its {} x {} scales do not fit {} x {} weights", scale.rows(),
                                  groups, matrix.rows, matrix.columns));
  }
  matrix.read_grids = [read = float_reader(parts, scale), bytes = scale.bytes(), groups, for_tensor,
                       zero_of](int64_t row, CodedRow& out) {
    out.scales.resize(static_cast<size_t>(groups));
    out.zeros.resize(zero_of ? out.scales.size() : 0);
    for (int64_t g = 0; g < groups; ++g) {
      out.scales[static_cast<size_t>(g)] = read(bytes, for_tensor ? 0 : row * groups + g);
      if (zero_of) out.zeros[static_cast<size_t>(g)] = zero_of(row, g);
    }
  };
}

std::string int_format(const CodedMatrix& matrix, int bits, bool zeros) {
  const std::string sharing = matrix.group_values == matrix.columns
                                  ? std::string("channel")
                                  : fmt::format("g{}", matrix.group_values);
  return fmt::format("int{}_{}{}", bits, sharing, zeros ? "_asym" : "");
}

/// Zero points of packed codes: in a column of words for each group, or a byte each.
std::function<float(int64_t, int64_t)> packed_zeros(const Parts& parts, const Part& zero,
                                                    const CodedMatrix& matrix, Packing packing) {
  const int64_t groups = zero.columns();
  const uint8_t* bytes = zero.bytes();
  if (zero.dtype == "I8") {
    parts.demand_shape(zero, {matrix.rows, groups});
    const int lowest = -(1 << (packing.bits - 1));
    return [=](int64_t row, int64_t group) {
      return static_cast<float>(static_cast<int8_t>(bytes[row * groups + group]) - lowest);
    };
  }
  const Packing along = packing_of(parts, zero, matrix.rows, zero.rows());
  if (along.bits != packing.bits) parts.fail(zero, "has other bits than the codes");
  return [=](int64_t row, int64_t group) {
    const int64_t bit = along.bit(row), word = bit / 32;
    uint32_t low, high = 0;
    std::memcpy(&low, bytes + 4 * (word * groups + group), sizeof low);
    const int shift = static_cast<int>(bit % 32);
    if (shift + along.bits > 32)
      std::memcpy(&high, bytes + 4 * ((word + 1) * groups + group), sizeof high);
    const uint64_t both = (uint64_t{high} << 32 | low) >> shift;
    return static_cast<float>(both & ((1u << along.bits) - 1));
  };
}

CodedMatrix join_packed_ints(Parts& parts, const std::string& module) {
  const Part& packed = parts.need(module + ".weight_packed", {"I32"});
  const Part& scale = parts.need(module + ".weight_scale", {"F16", "BF16", "F32"});
  const Part& shape = parts.need(module + ".weight_shape", {"I64"});
  const Part* zero = parts.find(module + ".weight_zero_point");
  const Part* indices = parts.find(module + ".weight_g_idx");
  CodedMatrix matrix;
  std::tie(matrix.rows, matrix.columns) = shape_in(parts, shape, packed);
  const Packing packing = packing_of(parts, packed, matrix.columns, packed.columns());
  if (zero != nullptr) {
    parts.need(zero->name, {"I32", "I8"});
    if (zero->columns() != scale.columns()) parts.fail(*zero, "has other groups than the scales");
  }
  read_scales(parts, scale, matrix, zero ? packed_zeros(parts, *zero, matrix, packing) : nullptr);
  if (indices != nullptr) matrix.group_of_column = column_groups(parts, *indices, matrix);
  matrix.levels = zero ? unsigned_levels(packing.bits) : signed_levels(packing.bits);
  matrix.format = int_format(matrix, packing.bits, zero != nullptr);
  matrix.parts = {packed.place, scale.place};
  matrix.read_codes = [bytes = packed.bytes(), stride = 4 * packed.columns(), packing,
                       columns = matrix.columns](int64_t row, CodedRow& out) {
    out.codes.resize(static_cast<size_t>(columns));
    for (int64_t i = 0; i < columns; ++i) {
      out.codes[static_cast<size_t>(i)] =
          bits_at(bytes + row * stride, packing.bit(i), packing.bits);
    }
  };
  return matrix;
}

void read_nibbles(const Part& packed, CodedMatrix& matrix) {
  matrix.read_codes = [bytes = packed.bytes(), stride = packed.columns()](int64_t row,
                                                                          CodedRow& out) {
    out.codes.resize(static_cast<size_t>(2 * stride));
    for (int64_t i = 0; i < stride; ++i) {
      const uint8_t two = bytes[row * stride + i];
      out.codes[static_cast<size_t>(2 * i)] = two & 15;
      out.codes[static_cast<size_t>(2 * i + 1)] = two >> 4;
    }
  };
}

void demand_groups(const Parts& parts, const Part& scale, const CodedMatrix& matrix) {
  parts.demand_shape(scale, {matrix.rows, matrix.groups()});
}

CodedMatrix nibbles_of(const Parts& parts, const Part& packed, int64_t group) {
  CodedMatrix matrix{.rows = packed.rows(), .columns = 2 * packed.columns()};
  if (packed.shape.size() != 2 || packed.values() == 0) parts.fail(packed, "must be a matrix");
  matrix.group_values = group;
  read_nibbles(packed, matrix);
  return matrix;
}

CodedMatrix join_mxfp4(Parts& parts, const std::string& module) {
  constexpr int64_t kGroup = 32;
  const Part& packed = parts.need(module + ".weight_packed", {"U8"});
  const Part& scale = parts.need(module + ".weight_scale", {"U8", "F8_E8M0"});
  CodedMatrix matrix = nibbles_of(parts, packed, kGroup);
  demand_groups(parts, scale, matrix);
  matrix.format = "MXFP4";
  matrix.levels = format_named(matrix.format).levels;  // doubled, so scales are halves
  matrix.parts = {packed.place, scale.place};
  matrix.read_grids = [bytes = scale.bytes(), groups = matrix.groups()](int64_t row,
                                                                        CodedRow& out) {
    constexpr int kBias = 128, kNan = 255;
    out.scales.resize(static_cast<size_t>(groups));
    for (int64_t g = 0; g < groups; ++g) {
      const int code = bytes[row * groups + g];
      out.scales[static_cast<size_t>(g)] = code == kNan ? NAN : std::ldexp(1.0f, code - kBias);
    }
  };
  return matrix;
}

CodedMatrix join_nvfp4(Parts& parts, const std::string& module) {
  constexpr int64_t kGroup = 16;
  const Part& packed = parts.need(module + ".weight_packed", {"U8"});
  const Part& scale = parts.need(module + ".weight_scale", {"F8_E4M3"});
  const Part& global = parts.need(module + ".weight_global_scale", {"F32"});
  if (global.values() != 1) parts.fail(global, "must be one value");
  CodedMatrix matrix = nibbles_of(parts, packed, kGroup);
  demand_groups(parts, scale, matrix);
  matrix.format = "nvfp4_tensor";
  matrix.levels = small_floats::E2M1::kLevels;
  matrix.parts = {packed.place, scale.place};
  const float divisor = float_reader(parts, global)(global.bytes(), 0);
  matrix.tensor_scale = 1 / divisor;
  matrix.read_grids = [read = float_reader(parts, scale), bytes = scale.bytes(),
                       groups = matrix.groups(), divisor](int64_t row, CodedRow& out) {
    out.scales.resize(static_cast<size_t>(groups));
    for (int64_t g = 0; g < groups; ++g)
      out.scales[static_cast<size_t>(g)] = read(bytes, row * groups + g) / divisor;
  };
  return matrix;
}

CodedMatrix join_packed(Parts& parts, const std::string& module) {
  const Part& packed = parts.need(module + ".weight_packed", {"I32", "U8"});
  if (packed.dtype == "I32") return join_packed_ints(parts, module);
  return parts.find(module + ".weight_global_scale") ? join_nvfp4(parts, module)
                                                     : join_mxfp4(parts, module);
}

/// Codes of 8 bits, integers or floats.
CodedMatrix join_bytes(Parts& parts, const std::string& module) {
  const bool sparse = parts.find(module + ".compressed") != nullptr;
  const Part& codes = parts.need(module + (sparse ? ".compressed" : ".weight"), {"I8", "F8_E4M3"});
  const Part& scale = parts.need(module + ".weight_scale", {"F16", "BF16", "F32"});
  if (codes.dtype == "F8_E4M3") return join_float8(parts, codes, scale);
  const Part* zero = parts.find(module + ".weight_zero_point");
  CodedMatrix matrix = matrix_of_bytes(parts, codes, 0x80);
  std::function<float(int64_t, int64_t)> zero_of;
  if (zero != nullptr) {
    parts.need(zero->name, {"I8"});
    parts.demand_shape(*zero, scale.shape);
    zero_of = [bytes = zero->bytes(), groups = scale.columns(), one = scale.values() == 1](
                  int64_t row, int64_t group) {
      constexpr int kLowest = -128;
      return static_cast<float>(static_cast<int8_t>(bytes[one ? 0 : row * groups + group]) -
                                kLowest);
    };
  }
  read_scales(parts, scale, matrix, zero_of);
  matrix.levels = zero ? unsigned_levels(8) : signed_levels(8);
  matrix.format = scale.values() == 1 && matrix.rows > 1 ? std::string()
                                                         : int_format(matrix, 8, zero != nullptr);
  matrix.parts = {codes.place, scale.place};
  return matrix;
}

constexpr LayoutReader kReaders[] = {{".weight_packed", join_packed},
                                     {".weight_scale", join_bytes}};

constexpr std::string_view kIgnored[] = {
    ".input_scale", ".input_zero_point", ".input_global_scale", ".output_scale", ".q_scale",
    ".k_scale",     ".v_scale",          ".output_zero_point"};

std::unique_ptr<LayoutTensor> tensor(const FolderScheme& scheme, std::string module, int64_t rows,
                                     int64_t columns) {
  if (tile_rows(scheme.format) > 1)
    return tiled_tensor(scheme.format, std::move(module), {rows, columns}, ".weight_scale");
  return std::make_unique<CompressedTensor>(scheme, std::move(module), rows, columns);
}

}  // namespace

constinit const Layout kCompressedTensors = {.name = "compressed-tensors",
                                             .method = "compressed-tensors",
                                             .readers = kReaders,
                                             .ignored = kIgnored,
                                             .inputs = compressed_tensors_inputs,
                                             .holds = compressed_tensors_holds,
                                             .says = compressed_tensors_says,
                                             .kv_scales = true,
                                             .by_use = true,
                                             .thins = compressed_tensors_thins,
                                             .config = compressed_tensors_config,
                                             .tensor = tensor};

}  // namespace fewbits
