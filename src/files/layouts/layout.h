#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/layouts/activation_scheme.h"
#include "files/layouts/parts.h"
#include "files/safetensors_writer.h"

// The layouts of quantized model folders. One file each here, one line each in all.cc.
namespace fewbits {

/// Joins the tensors of the module ("model.layers.0.mlp.up_proj") to which the one whose name ends
/// with `mark` belongs.
struct LayoutReader {
  std::string_view mark;
  CodedMatrix (*join)(Parts& parts, const std::string& module);
};

/// What the kernels that read a folder shall do with the inputs of its quantized layers.
enum class Inputs {
  kFloats,   ///< nothing
  kDynamic,  ///< round them, by scales found as they come
  kStatic,   ///< round them, by scales that the folder has from calibration
};

/// As users type them, in that order.
inline constexpr std::string_view kInputNames[] = {"floats", "dynamic", "static"};

/// How the quantized layers of a folder are kept.
struct FolderScheme {
  const Format& format;
  std::optional<Inputs> inputs = {};  ///< nothing: as the kernels for such weights want it
  bool kv_scales = false;             ///< there are scales for a KV cache in E4M3
  bool by_use = false;  ///< columns that matter alike share a group, wherever they stand
  bool sparse = false;  ///< of four values in a row two at most are not 0
};

/// One weight on its way into a file: rows come as their format stores them, in order.
class LayoutTensor {
 public:
  virtual ~LayoutTensor() = default;

  /// The largest of what the layer is fed, whatever its sign. Told before rest(), where the inputs
  /// are static.
  void set_largest_input(float largest) { largest_input_ = largest; }

  /// Column i of the rows to come is column `columns[i]` of the weight; empty: column i. Told
  /// before the first rows, where columns are grouped by use. They must outlive this object.
  void set_columns(std::span<const int32_t> columns) { columns_by_use_ = columns; }

  /// What it becomes, in the order in which its bytes are written.
  virtual std::vector<SafetensorsEntry> entries() const = 0;
  /// The bytes that can be written now that there are more rows. Valid until the next call.
  virtual std::span<const std::byte> append_rows(std::span<const std::byte> bytes) = 0;
  /// All other bytes. REQUIRES: every row has been appended.
  virtual std::vector<std::byte> rest() = 0;

 protected:
  int64_t column_of(int64_t i) const {
    return columns_by_use_.empty() ? i : columns_by_use_[static_cast<size_t>(i)];
  }
  /// The group of each column of the weight.
  std::vector<int32_t> groups_of_columns(int64_t columns, int64_t group) const;

  float largest_input_ = 0;
  std::span<const int32_t> columns_by_use_;
};

struct Layout {
  std::string_view name;    ///< as users type it
  std::string_view method;  ///< "quant_method" of config.json's quantization_config
  std::span<const LayoutReader> readers;
  /// Ends of the names of tensors that no weight needs: scales of activations, and the like.
  std::span<const std::string_view> ignored = {};
  /// What its config says of the inputs of layers; null: nothing.
  InputRule (*inputs)(const Json& config) = nullptr;

  // To write; null where the layout is only read.
  bool (*holds)(const Format& format) = nullptr;
  /// Whether its config can say so of the inputs; null: of none.
  bool (*says)(const Format& format, Inputs inputs) = nullptr;
  bool kv_scales = false;  ///< it has a place for them
  bool by_use = false;     ///< it can say which group each column is in
  /// Whether it can leave out the zeros of such a format; null: of none.
  bool (*thins)(const Format& format) = nullptr;
  /// "quantization_config" of a model whose linear layers are kept so but for the modules to
  /// ignore.
  Json (*config)(const FolderScheme& scheme, const std::vector<std::string>& ignored) = nullptr;
  /// `module`: the layer's name, without ".weight". Throws Error where the layout has no place for
  /// such sizes. REQUIRES: holds(scheme.format), columns are whole blocks.
  std::unique_ptr<LayoutTensor> (*tensor)(const FolderScheme& scheme, std::string module,
                                          int64_t rows, int64_t columns) = nullptr;

  bool writes(const Format& format) const { return holds != nullptr && holds(format); }
};

/// Sorted by name.
std::span<const Layout* const> layouts();

/// By name. Throws Error that lists those that can be written.
const Layout& layout_named(std::string_view name);

/// The names of all layouts that can be written, and of the formats that one of them holds.
std::vector<std::string> written_layouts();
std::vector<std::string> formats_of(const Layout& layout);

/// Throws Error where the layout cannot keep layers so.
void refuse_unkept(const Layout& layout, const FolderScheme& scheme);

/// By what numbers up to `largest` are divided, so that they fill a range up to `most`.
float scale_to(float largest, float most);
/// Of keys or values that are rounded to E4M3.
float kv_scale(float largest);

/// By "quant_method". Throws Error that lists the known.
const Layout& layout_of(const Json& quantization_config, std::string_view where);

}  // namespace fewbits
