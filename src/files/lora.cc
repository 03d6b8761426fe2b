#include "files/lora.h"

#include <fmt/format.h>

#include <cmath>
#include <span>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "files/errors.h"
#include "files/safetensors.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "adapter_config.json";
constexpr const char* kWeights = "adapter_model.safetensors";
constexpr std::string_view kPrefix = "base_model.model.";

/// What can be merged, and how strongly.
class Scaling {
 public:
  Scaling(const Json& config, const std::string& where)
      : alpha_(json_number(config, "lora_alpha", where)),
        by_root_(json_bool_or(config, "use_rslora", false, where)) {
    const auto alphas = config.find("alpha_pattern");
    if (alphas != config.end() && alphas->is_object()) {
      for (const auto& [module, alpha] : alphas->items()) {
        if (alpha.is_number()) alphas_.emplace_back(module, alpha.get<double>());
      }
    }
  }

  double of(const std::string& module, int64_t rank) const {
    double alpha = alpha_;
    for (const auto& [name, own] : alphas_) {
      if (module == name || module.ends_with("." + name)) alpha = own;
    }
    const auto r = static_cast<double>(rank);
    return alpha / (by_root_ ? std::sqrt(r) : r);
  }

 private:
  double alpha_;
  bool by_root_;
  std::vector<std::pair<std::string, double>> alphas_;
};

void refuse_other_methods(const Json& config, const std::string& where) {
  const std::string type = json_string_or(config, "peft_type", "LORA", where);
  if (type != "LORA") throw Error(fmt::format("{}: {} is no LoRA", where, quote_name(type)));
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"}) {
    if (json_bool_or(config, key, false, where)) {
      throw Error(
          fmt::format("{}: '{}' is not supported; merge the adapter with PEFT", where, key));
    }
  }
}

/// "model.layers.0.mlp.up_proj" of the name of its `half`, "lora_A" or "lora_B"; "" of another
/// name.
std::string module_of(std::string_view name, std::string_view half) {
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  for (const std::string& end :
       {fmt::format(".{}.weight", half), fmt::format(".{}.default.weight", half)}) {
    if (name.ends_with(end)) return std::string(name.substr(0, name.size() - end.size()));
  }
  return {};
}

std::vector<float> floats_of(const TensorView& view) {
  std::vector<float> values(static_cast<size_t>(view.values()));
  decode_rows(*view.format, view.bytes.data(), view.rows(), view.columns(), values.data());
  return values;
}

struct Adapter {
  int64_t rank;
  float scale;
  std::vector<float> down;  ///< A: [rank][in]
  std::vector<float> up;    ///< B: [out][rank]
};

/// A row of W + scale * B A.
void read_merged(const StoredTensor& base, const Adapter& adapter, int64_t row, float* out) {
  std::vector<std::byte> scratch;
  const int64_t columns = base.view.columns();
  decode(*base.view.format, base.row(row, scratch).data(), columns, out);
  std::vector<float> delta(static_cast<size_t>(columns));
  for (int64_t k = 0; k < adapter.rank; ++k) {
    const float factor = adapter.up[static_cast<size_t>(row * adapter.rank + k)];
    const float* down = adapter.down.data() + k * columns;
    for (int64_t i = 0; i < columns; ++i) delta[static_cast<size_t>(i)] += factor * down[i];
  }
  for (int64_t i = 0; i < columns; ++i) out[i] += adapter.scale * delta[static_cast<size_t>(i)];
}

void merge_module(TensorStore& store, const std::string& module, const TensorView& down,
                  const TensorView& up, const Scaling& scaling) {
  const std::string name = module + ".weight";
  const StoredTensor* found = store.find(name);
  if (found == nullptr) {
    throw Error(fmt::format("the model has no tensor {}; was the adapter made for another?",
                            quote_name(name)));
  }
  const StoredTensor base = *found;
  const bool matrices =
      base.view.shape.size() == 2 && down.shape.size() == 2 && up.shape.size() == 2;
  const int64_t rank = matrices ? down.shape[0] : 0;
  if (rank < 1 || down.shape[1] != base.view.shape[1] || up.shape[0] != base.view.shape[0] ||
      up.shape[1] != rank) {
    throw Error(
        fmt::format("the shapes of the adapter of {} do not fit the model's", quote_name(name)));
  }
  Adapter adapter{rank, static_cast<float>(scaling.of(module, rank)), floats_of(down),
                  floats_of(up)};
  ComputedMatrix merged{.rows = base.view.shape[0], .columns = base.view.shape[1]};
  if (base.joined == nullptr) merged.parts = {{base.view.bytes, base.file}};
  merged.read = [base, adapter = std::move(adapter)](int64_t row, float* out) {
    read_merged(base, adapter, row, out);
  };
  store.replace(name, std::move(merged));
}

}  // namespace

void merge_lora(TensorStore& store, const fs::path& folder) {
  const fs::path config_file = folder / kConfig;
  std::error_code ignored;
  if (!fs::exists(config_file, ignored)) {
    throw Error(fmt::format("{}: has no {}; an adapter is a folder that PEFT has saved",
                            folder.string(), kConfig));
  }
  const Json config = read_json_file(config_file);
  if (!config.is_object()) throw Error(fmt::format("{}: no JSON object", config_file.string()));
  refuse_other_methods(config, config_file.string());
  const Scaling scaling(config, config_file.string());
  const fs::path file = folder / kWeights;
  const TensorStore adapter = open_safetensors_file(file);
  with_place(file.string(), [&] {
    std::unordered_map<std::string, const StoredTensor*> ups;
    for (const StoredTensor& up : adapter.tensors()) {
      if (std::string module = module_of(up.name, "lora_B"); !module.empty())
        ups.emplace(std::move(module), &up);
    }
    size_t merged = 0;
    for (const StoredTensor& down : adapter.tensors()) {
      const auto up = ups.find(module_of(down.name, "lora_A"));
      if (up == ups.end()) continue;
      merge_module(store, up->first, down.view, up->second->view, scaling);
      ups.erase(up);
      merged += 2;
    }
    if (merged != adapter.tensors().size() || merged == 0) {
      throw Error(
          fmt::format("{} of {} tensors are no pairs lora_A and lora_B of linear layers, "
                      "which is all that is merged",
                      adapter.tensors().size() - merged, adapter.tensors().size()));
    }
  });
}

}  // namespace fewbits
