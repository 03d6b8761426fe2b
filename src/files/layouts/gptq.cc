#include <fmt/format.h>

#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/version.h"
#include "files/layouts/columnwise.h"
#include "files/layouts/layout.h"

// GPTQ, as AutoGPTQ and GPTQModel write it. A linear layer X with `in` inputs and `out` outputs:
//
//     X.qweight  int32 [in * bits / 32, out]      codes along the inputs, lowest bits first, no
//     gaps X.qzeros   int32 [groups, out * bits / 32]  zero points along the outputs; version 1
//     keeps
//                                                 them less one, modulo 2^bits
//     X.scales   half [groups, out]
//     X.g_idx    int32 [in]                       group of each input
//
//     weight = scale * (code - zero)
namespace fewbits {

extern const Layout kGptq;
extern const Layout kGptqV2;

namespace {

/// Version 2 says so; everything older is version 1.
int zero_shift(const Json& config, std::string_view where) {
  const std::string version = json_string_or(config, "checkpoint_format", "gptq", where);
  if (version == "gptq_v2") return 0;
  if (version == "gptq") return 1;
  throw Error(fmt::format("{}: checkpoint_format '{}' cannot be read; known: gptq, gptq_v2", where,
                          version));
}

int bits_of(const Json& config, std::string_view where) {
  const int64_t bits = json_integer(config, "bits", where);
  if (bits == 2 || bits == 3 || bits == 4 || bits == 8) return static_cast<int>(bits);
  throw Error(fmt::format("{}: {} bits cannot be read; known: 2, 3, 4, 8", where, bits));
}

/// Code of an output along the inputs: bits that may go on in the next word of its column.
uint8_t code_at(const uint8_t* words, int64_t stride, int64_t bit, int bits) {
  const int64_t word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  uint32_t low, high = 0;
  std::memcpy(&low, words + 4 * word * stride, sizeof low);
  if (shift + bits > 32) std::memcpy(&high, words + 4 * (word + 1) * stride, sizeof high);
  return static_cast<uint8_t>((uint64_t{high} << 32 | low) >> shift & ((1u << bits) - 1));
}

/// Loaders make a bias of zeros where the model has none, and some save it.
void leave_out_zero_bias(Parts& parts, const std::string& module) {
  const auto bias = parts.all().find(module + ".bias");
  if (bias == parts.all().end()) return;
  for (const std::byte byte : bias->second.place.bytes) {
    if (byte != std::byte{0}) return;
  }
  parts.ignore(bias->first);
}

CodedMatrix join(Parts& parts, const std::string& module) {
  const int bits = bits_of(parts.config(), parts.where());
  const int shift = zero_shift(parts.config(), parts.where());
  const Part& codes = parts.need(module + ".qweight", {"I32"});
  if (codes.values() == 0) parts.fail(codes, "is empty");
  const Part& zeros = parts.need(module + ".qzeros", {"I32"});
  const Part& scales = parts.need(module + ".scales", {"F16", "BF16", "F32"});
  const Part* indices = parts.find(module + ".g_idx");
  leave_out_zero_bias(parts, module);
  const int64_t columns = codes.rows() * 32 / bits;
  CodedMatrix matrix{.rows = codes.columns(), .columns = columns};
  const int64_t stride = divide_up(matrix.rows * bits, int64_t{32});
  parts.demand_shape(zeros, {scales.rows(), stride});
  const ColumnwiseGrids grids{
      .bits = bits,
      .scales = &scales,
      .zero_of = [=, bytes = zeros.bytes()](int64_t row, int64_t group) {
        const unsigned stored = bits_at(bytes + 4 * group * stride, row * bits, bits);
        return static_cast<uint8_t>((stored + static_cast<unsigned>(shift)) & ((1u << bits) - 1));
      }};
  read_columnwise_grids(parts, grids, matrix);
  if (indices != nullptr) matrix.group_of_column = column_groups(parts, *indices, matrix);
  matrix.parts = {codes.place, zeros.place, scales.place};
  matrix.read_codes = [bytes = codes.bytes(), rows = matrix.rows, columns, bits](int64_t row,
                                                                                 CodedRow& out) {
    out.codes.resize(static_cast<size_t>(columns));
    for (int64_t i = 0; i < columns; ++i) {
      out.codes[static_cast<size_t>(i)] = code_at(bytes + 4 * row, rows, i * bits, bits);
    }
  };
  return matrix;
}

constexpr LayoutReader kReaders[] = {{".qweight", join}};

/// Bits [bit, bit + bits) of a line whose words lie `stride` apart.
void put_bits(uint8_t code, int64_t bit, int bits, int64_t stride, uint32_t* line) {
  const int64_t word = bit / 32;
  const int shift = static_cast<int>(bit % 32);
  line[word * stride] |= uint32_t{code} << shift;
  if (shift + bits > 32) line[(word + 1) * stride] |= uint32_t{code} >> (32 - shift);
}

void put_code(const MatrixSizes& sizes, int64_t row, int64_t column, uint8_t code,
              uint32_t* words) {
  put_bits(code, column * sizes.bits, sizes.bits, sizes.rows, words + row);
}

void put_zero(const MatrixSizes& sizes, int64_t row, int64_t group, uint8_t zero, uint32_t* words) {
  put_bits(zero, row * sizes.bits, sizes.bits, 1, words + group * (sizes.rows * sizes.bits / 32));
}

Shape code_words(const MatrixSizes& sizes) {
  return {sizes.columns * sizes.bits / 32, sizes.rows};
}

constexpr Columnwise kVersion1 = {.put_code = put_code,
                                  .put_zero = put_zero,
                                  .code_words = code_words,
                                  .zero_shift = 1,
                                  .group_indices = true};
constexpr Columnwise kVersion2 = {
    .put_code = put_code, .put_zero = put_zero, .code_words = code_words, .group_indices = true};

bool holds_any(const Format& format) {
  return int_format(format).has_value();
}

/// Of zero points that are 0 version 1 would store -1, which readers take for different things.
bool holds_symmetric(const Format& format) {
  const auto integers = int_format(format);
  return integers && !integers->zeros;
}

Json config_of(const FolderScheme& scheme, const std::vector<std::string>& ignored,
               const char* version) {
  const IntFormat integers = *int_format(scheme.format);
  Json config = {{"quant_method", "gptq"},
                 {"bits", integers.bits},
                 {"group_size", integers.group},
                 {"desc_act", scheme.by_use},
                 {"sym", !integers.zeros},
                 {"lm_head", false},
                 {"pack_dtype", "int32"},
                 {"checkpoint_format", version},
                 {"meta", {{"quantizer", {fmt::format("fewbits:{}", program_version())}}}}};
  for (const std::string& module : ignored) {
    if (module != "lm_head") config["dynamic"]["-:^" + module + "$"] = Json::object();
  }
  return config;
}

Json config1(const FolderScheme& scheme, const std::vector<std::string>& ignored) {
  return config_of(scheme, ignored, "gptq");
}
Json config2(const FolderScheme& scheme, const std::vector<std::string>& ignored) {
  return config_of(scheme, ignored, "gptq_v2");
}

template <const Columnwise& kVersionOf>
std::unique_ptr<LayoutTensor> tensor(const FolderScheme& scheme, std::string module, int64_t rows,
                                     int64_t columns) {
  return columnwise_tensor(kVersionOf, scheme.format, std::move(module), {rows, columns});
}

}  // namespace

constinit const Layout kGptq = {.name = "gptq",
                                .method = "gptq",
                                .readers = kReaders,
                                .holds = holds_symmetric,
                                .by_use = true,
                                .config = config1,
                                .tensor = tensor<kVersion1>};
constinit const Layout kGptqV2 = {.name = "gptq_v2",
                                  .method = "gptq",
                                  .readers = kReaders,
                                  .holds = holds_any,
                                  .by_use = true,
                                  .config = config2,
                                  .tensor = tensor<kVersion2>};

}  // namespace fewbits
