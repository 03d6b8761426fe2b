#include "files/layouts/eight_bits.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/error.h"
#include "files/layouts/layout.h"
#include "formats/fp8_tiles.h"
#include "formats/small_floats.h"

namespace fewbits {

extern const Layout kFp8;

namespace {

constexpr std::string_view kCompressed = ".compressed";

struct Tile {
  int64_t rows, columns;
};

std::optional<Tile> tile_in(const Json& holder, const char* key) {
  const auto sizes = holder.is_object() ? holder.find(key) : holder.end();
  if (!holder.is_object() || sizes == holder.end() || !sizes->is_array() || sizes->size() != 2)
    return {};
  if (!(*sizes)[0].is_number_integer() || !(*sizes)[1].is_number_integer()) return {};
  const Tile tile{(*sizes)[0].get<int64_t>(), (*sizes)[1].get<int64_t>()};
  if (tile.rows < 1 || tile.columns < 1) return {};
  return tile;
}

/// weight_block_size (of DeepSeek's models), or block_structure of compressed-tensors; 128 x 128
/// where the config is silent.
Tile tile_of(const Json& config) {
  constexpr Tile kUsual{128, 128};
  if (const auto tile = tile_in(config, "weight_block_size")) return *tile;
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object()) return kUsual;
  for (const Json& group : *groups) {
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (!group.is_object() || weights == group.end()) continue;
    if (const auto tile = tile_in(*weights, "block_structure")) return *tile;
  }
  return kUsual;
}

constexpr int64_t parts_of(int64_t size, int64_t part) {
  return (size - 1) / part + 1;
}

/// DeepSeek's models: scales of tiles, which multiply although their name says otherwise.
CodedMatrix join_tiles(Parts& parts, const std::string& module) {
  const Part& codes = parts.need(module + ".weight", {"F8_E4M3"});
  return join_float8(parts, codes,
                     parts.need(module + ".weight_scale_inv", {"F32", "BF16", "F16", "F8_E8M0"}));
}

CodedMatrix join_scaled(Parts& parts, const std::string& module) {
  const Part& codes = parts.need(module + ".weight", {"F8_E4M3"});
  return join_float8(parts, codes, parts.need(module + ".weight_scale", {"F32", "BF16", "F16"}));
}

constexpr LayoutReader kReaders[] = {{".weight_scale_inv", join_tiles},
                                     {".weight_scale", join_scaled}};
constexpr std::string_view kIgnored[] = {".input_scale", ".activation_scale", ".k_scale",
                                         ".v_scale"};

bool holds(const Format& format) {
  return tile_rows(format) == kTileSize;
}

Json config(const FolderScheme&, const std::vector<std::string>& ignored) {
  return {{"quant_method", "fp8"},
          {"fmt", "e4m3"},
          {"activation_scheme", "dynamic"},
          {"weight_block_size", {kTileSize, kTileSize}},
          {"modules_to_not_convert", ignored}};
}

std::unique_ptr<LayoutTensor> tensor(const FolderScheme& scheme, std::string module, int64_t rows,
                                     int64_t columns) {
  return tiled_tensor(scheme.format, std::move(module), {rows, columns}, ".weight_scale_inv");
}

/// Codes as they come, and the scales of the first row of each tile.
class TiledTensor : public LayoutTensor {
 public:
  TiledTensor(const Format& format, std::string module, Shape shape, std::string scale_name)
      : format_(format),
        module_(std::move(module)),
        shape_(std::move(shape)),
        scale_name_(std::move(scale_name)) {}

  std::vector<SafetensorsEntry> entries() const override {
    const int64_t bands = parts_of(shape_[0], kTileSize), groups = shape_[1] / kTileSize;
    return {{module_ + ".weight", "F8_E4M3", shape_, shape_[0] * shape_[1]},
            {module_ + scale_name_, "F32", {bands, groups}, bands * groups * 4}};
  }

  std::span<const std::byte> append_rows(std::span<const std::byte> bytes) override {
    codes_.clear();
    const auto block = static_cast<size_t>(format_.block_bytes);
    for (; !bytes.empty(); ++next_row_) {
      for (int64_t i = 0; i < shape_[1]; i += kTileSize, bytes = bytes.subspan(block)) {
        const auto scale = bytes.first(sizeof(float));
        const auto codes = bytes.first(block).subspan(sizeof(float));
        if (next_row_ % kTileSize == 0) scales_.insert(scales_.end(), scale.begin(), scale.end());
        codes_.insert(codes_.end(), codes.begin(), codes.end());
      }
    }
    return codes_;
  }

  std::vector<std::byte> rest() override { return scales_; }

 private:
  const Format& format_;
  std::string module_;
  Shape shape_;
  std::string scale_name_;
  int64_t next_row_ = 0;
  std::vector<std::byte> codes_, scales_;
};

}  // namespace

std::unique_ptr<LayoutTensor> tiled_tensor(const Format& format, std::string module, Shape shape,
                                           std::string scale_name) {
  return std::make_unique<TiledTensor>(format, std::move(module), std::move(shape),
                                       std::move(scale_name));
}

namespace {

/// Half of each row are there: those whose bits are set.
CodedMatrix matrix_of_half(Parts& parts, const Part& codes, uint8_t flipped) {
  const std::string module = codes.name.substr(0, codes.name.size() - kCompressed.size());
  const Part& mask = parts.need(module + ".bitmask", {"U8"});
  const Part& shape = parts.need(module + ".shape", {"I64"});
  if (shape.values() != 2) parts.fail(shape, "must have two values");
  int64_t sizes[2];
  std::memcpy(sizes, shape.bytes(), sizeof sizes);
  CodedMatrix matrix{.rows = codes.rows(), .columns = 2 * codes.columns()};
  if (sizes[0] != matrix.rows || sizes[1] != matrix.columns) {
    parts.fail(shape, fmt::format("says {} x {}, but there are codes of {} x {}", sizes[0],
                                  sizes[1], matrix.rows, matrix.columns));
  }
  const int64_t stride = parts_of(matrix.columns, 8);
  parts.demand_shape(mask, {matrix.rows, stride});
  for (int64_t row = 0; row < matrix.rows; ++row) {
    int64_t there = 0;
    for (int64_t i = 0; i < stride; ++i) there += std::popcount(mask.bytes()[row * stride + i]);
    const int64_t end = matrix.columns % 8;
    const bool beyond = end != 0 && mask.bytes()[row * stride + stride - 1] >> end != 0;
    if (there != codes.columns() || beyond) {
      parts.fail(mask,
                 fmt::format("row {} has {} bits, but must have {}", row, there, codes.columns()));
    }
  }
  matrix.read_codes = [from = codes.bytes(), bits = mask.bytes(), stride, flipped,
                       columns = matrix.columns](int64_t row, CodedRow& out) {
    out.codes.assign(static_cast<size_t>(columns), flipped);
    const uint8_t* next = from + row * columns / 2;
    for (int64_t i = 0; i < columns; ++i) {
      if ((bits[row * stride + i / 8] >> (i % 8) & 1) != 0)
        out.codes[static_cast<size_t>(i)] = *next++ ^ flipped;
    }
  };
  return matrix;
}

}  // namespace

CodedMatrix matrix_of_bytes(Parts& parts, const Part& codes, uint8_t flipped) {
  if (codes.shape.size() != 2 || codes.values() == 0) parts.fail(codes, "must be a matrix");
  if (codes.name.ends_with(kCompressed)) return matrix_of_half(parts, codes, flipped);
  CodedMatrix matrix{.rows = codes.rows(), .columns = codes.columns()};
  matrix.read_codes = [bytes = codes.bytes(), columns = matrix.columns, flipped](int64_t row,
                                                                                 CodedRow& out) {
    out.codes.assign(bytes + row * columns, bytes + (row + 1) * columns);
    for (uint8_t& code : out.codes) code ^= flipped;
  };
  return matrix;
}

CodedMatrix join_float8(Parts& parts, const Part& codes, const Part& scale) {
  CodedMatrix matrix = matrix_of_bytes(parts, codes, 0);
  matrix.levels = small_floats::E4M3::kLevels;
  matrix.parts = {codes.place, scale.place};
  Tile tile = tile_of(parts.config());
  if (scale.values() == 1) {
    tile = {matrix.rows, matrix.columns};
    matrix.format = "fp8_e4m3";
  } else if (scale.rows() == matrix.rows && scale.columns() == 1) {
    tile = {1, matrix.columns};
    matrix.format = "fp8_e4m3_channel";
  }
  const int64_t bands = parts_of(matrix.rows, tile.rows);
  const int64_t groups = parts_of(matrix.columns, tile.columns);
  if (scale.values() != bands * groups || scale.columns() != groups) {
    parts.fail(scale,
               fmt::format("its {} x {} scales do not fit {} x {} weights in tiles of {} x {}",
                           scale.rows(), scale.columns(), matrix.rows, matrix.columns, tile.rows,
                           tile.columns));
  }
  matrix.group_values = std::min(tile.columns, matrix.columns);
  if (matrix.format.empty() && tile.columns == kTileSize) matrix.format = "fp8_e4m3_b128";
  matrix.read_grids = [read = float_reader(parts, scale), bytes = scale.bytes(), groups, tile](
                          int64_t row, CodedRow& out) {
    out.scales.resize(static_cast<size_t>(groups));
    for (int64_t g = 0; g < groups; ++g)
      out.scales[static_cast<size_t>(g)] = read(bytes, row / tile.rows * groups + g);
  };
  return matrix;
}

constinit const Layout kFp8 = {.name = "fp8",
                               .method = "fp8",
                               .readers = kReaders,
                               .ignored = kIgnored,
                               .inputs = fp8_inputs,
                               .holds = holds,
                               .config = config,
                               .tensor = tensor};

}  // namespace fewbits
