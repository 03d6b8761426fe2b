#include <fmt/format.h>

#include <array>

#include "base/error.h"
#include "files/layouts/columnwise.h"
#include "files/layouts/layout.h"

// AWQ's layout for its GEMM kernels. A linear layer X with `in` inputs and `out` outputs, 4 bits:
//
//     X.qweight  int32 [in, out / 8]       codes along the outputs, eight in a word
//     X.qzeros   int32 [groups, out / 8]   zero points in the same order
//     X.scales   half [groups, out]
//
//     weight = scale * (code - zero)
//
// Nibble i of a word, the lowest first, belongs to output 0, 2, 4, 6, 1, 3, 5, 7 of the eight.
namespace fewbits {

extern const Layout kAwq;

namespace {

constexpr int kBits = 4;
constexpr int64_t kPerWord = 8;
constexpr std::array<int, kPerWord> kNibbleOfOutput = {0, 4, 1, 5, 2, 6, 3, 7};

uint8_t code_of_output(const uint8_t* words, int64_t output) {
  const int nibble = kNibbleOfOutput[static_cast<size_t>(output % kPerWord)];
  const uint8_t both = words[output / kPerWord * 4 + nibble / 2];
  return nibble % 2 == 0 ? both & 15 : both >> 4;
}

void refuse_others(const Json& config, std::string_view where) {
  const int64_t bits = json_integer_or(config, "bits", kBits, where);
  if (bits != kBits) {
    throw Error(fmt::format("{}: {} bits cannot be read; AWQ has 4", where, bits));
  }
  std::string version = json_string_or(config, "version", "gemm", where);
  if (version != "gemm" && version != "GEMM") {
    throw Error(fmt::format("{}: version '{}' cannot be read; known: gemm", where, version));
  }
}

CodedMatrix join(Parts& parts, const std::string& module) {
  refuse_others(parts.config(), parts.where());
  const Part& codes = parts.need(module + ".qweight", {"I32"});
  if (codes.values() == 0) parts.fail(codes, "is empty");
  const Part& zeros = parts.need(module + ".qzeros", {"I32"});
  const Part& scales = parts.need(module + ".scales", {"F16", "BF16", "F32"});
  CodedMatrix matrix{.rows = codes.columns() * kPerWord, .columns = codes.rows()};
  const int64_t stride = 4 * codes.columns();
  parts.demand_shape(zeros, {scales.rows(), codes.columns()});
  const ColumnwiseGrids grids{.bits = kBits,
                              .scales = &scales,
                              .zero_of = [=, bytes = zeros.bytes()](int64_t row, int64_t group) {
                                return code_of_output(bytes + group * stride, row);
                              }};
  read_columnwise_grids(parts, grids, matrix);
  matrix.parts = {codes.place, zeros.place, scales.place};
  matrix.read_codes = [bytes = codes.bytes(), stride, columns = matrix.columns](int64_t row,
                                                                                CodedRow& out) {
    out.codes.resize(static_cast<size_t>(columns));
    for (int64_t i = 0; i < columns; ++i) {
      out.codes[static_cast<size_t>(i)] = code_of_output(bytes + i * stride, row);
    }
  };
  return matrix;
}

constexpr LayoutReader kReaders[] = {{".qweight", join}};

/// For codes `line` is an input, for zero points a group.
void put(const MatrixSizes& sizes, int64_t row, int64_t line, uint8_t code, uint32_t* words) {
  const int nibble = kNibbleOfOutput[static_cast<size_t>(row % kPerWord)];
  words[line * (sizes.rows / kPerWord) + row / kPerWord] |= uint32_t{code} << (4 * nibble);
}

Shape code_words(const MatrixSizes& sizes) {
  return {sizes.columns, sizes.rows / kPerWord};
}

constexpr Columnwise kGemm = {.put_code = put, .put_zero = put, .code_words = code_words};

bool holds(const Format& format) {
  const auto integers = int_format(format);
  return integers && integers->bits == kBits;
}

Json config(const FolderScheme& scheme, const std::vector<std::string>& ignored) {
  Json json = {{"quant_method", "awq"},
               {"bits", kBits},
               {"group_size", int_format(scheme.format)->group},
               {"zero_point", true},
               {"version", "gemm"},
               {"modules_to_not_convert", nullptr}};
  if (!ignored.empty()) json["modules_to_not_convert"] = ignored;
  return json;
}

std::unique_ptr<LayoutTensor> tensor(const FolderScheme& scheme, std::string module, int64_t rows,
                                     int64_t columns) {
  return columnwise_tensor(kGemm, scheme.format, std::move(module), {rows, columns});
}

}  // namespace

constinit const Layout kAwq = {.name = "awq",
                               .method = "awq",
                               .readers = kReaders,
                               .holds = holds,
                               .config = config,
                               .tensor = tensor};

}  // namespace fewbits
