#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <unordered_set>

#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

/// The pattern with its first "{}" replaced.
std::string with_number(std::string_view pattern, int64_t number) {
  std::string name(pattern);
  const size_t place = name.find("{}");
  if (place != std::string::npos) name.replace(place, 2, std::to_string(number));
  return name;
}

bool is_norm_gain(Role role) {
  using enum Role;
  constexpr std::array kGains = {kEmbeddingNorm,     kOutputNorm, kAttentionNorm,
                                 kQueryNorm,         kKeyNorm,    kLatentNorm,
                                 kAttentionPostNorm, kMlpNorm,    kMlpPostNorm};
  return std::ranges::find(kGains, role) != kGains.end();
}

bool is_dense_mlp(Role role) {
  return role == Role::kGate || role == Role::kUp || role == Role::kGateUp || role == Role::kDown;
}

bool is_of_experts(Role role) {
  return role == Role::kRouter || role == Role::kExpertGate || role == Role::kExpertUp ||
         role == Role::kExpertDown || role == Role::kSharedGate || role == Role::kSharedUp ||
         role == Role::kSharedDown;
}

Shape reversed(Shape shape) {
  std::reverse(shape.begin(), shape.end());
  return shape;
}

std::string shape_text(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// Where each row of query, key and value one after the other lies where each key/value head stands
/// behind the query heads that it serves.
std::vector<int32_t> ungrouped_rows(const ModelConfig& config) {
  const int64_t served = config.heads / config.kv_heads, group = served + 2;
  std::vector<int32_t> rows;
  const auto add_head = [&](int64_t head) {
    for (int64_t i = 0; i < config.head_dim; ++i) {
      rows.push_back(static_cast<int32_t>(head * config.head_dim + i));
    }
  };
  for (int64_t head = 0; head < config.heads; ++head) {
    add_head(head / served * group + head % served);
  }
  for (const int64_t place : {served, served + 1}) {
    for (int64_t head = 0; head < config.kv_heads; ++head) add_head(head * group + place);
  }
  return rows;
}

class WeightFinder {
 public:
  WeightFinder(Model& model, SourceKind source) : model_(model), source_(source) {}

  /// The table lists one layer's tensors between those before and those after all layers.
  void find_all() {
    const auto tensors = model_.architecture->tensors;
    const auto in_layer = [](const TensorName& name) {
      return name.gguf.find("{}") != name.gguf.npos;
    };
    const auto begin = std::ranges::find_if(tensors, in_layer);
    const auto end = std::find_if_not(begin, tensors.end(), in_layer);
    for (auto name = tensors.begin(); name != begin; ++name) add(*name, -1);
    for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
      for (auto name = begin; name != end; ++name) add(*name, layer);
    }
    for (auto name = end; name != tensors.end(); ++name) add(*name, -1);
    if (model_.config.latent > 0) require_keys_and_values();
    refuse_left_over();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(fmt::format("{}: {}", model_.path.string(), what));
  }

  /// Of several names of one role the first that is there counts.
  bool is_filled(Role role, int64_t layer) const {
    for (auto last = model_.weights.rbegin(); last != model_.weights.rend(); ++last) {
      if (last->layer != layer) return false;
      if (last->role == role) return true;
    }
    return false;
  }

  void require_keys_and_values() const {
    for (int64_t layer = 0; layer < model_.config.layers; ++layer) {
      const auto has = [&](Role role) { return model_.find(role, layer) != nullptr; };
      if (has(Role::kKeyValue)) continue;
      if (has(Role::kKeyFromLatent) && has(Role::kValueFromLatent)) continue;
      fail(fmt::format("layer {} has no matrix that makes keys and values", layer));
    }
  }

  void add(const TensorName& name, int64_t layer) {
    const ModelConfig& config = model_.config;
    // A layer has one feed-forward part or experts.
    if (is_of_experts(name.role) && !config.has_experts(layer)) return;
    if (is_dense_mlp(name.role) && config.has_experts(layer)) return;
    if (is_filled(name.role, layer)) return;
    const bool gguf = source_ == SourceKind::kGguf;
    const std::string stored_name = with_number(gguf ? name.gguf : name.hugging_face, layer);
    Weight weight{with_number(name.gguf, layer), name.role, layer};
    weight.shape = expected_shape(name.role, config);
    if (stored_name.find("{}") != stored_name.npos) {
      find_parts(stored_name, weight);
    } else {
      weight.tensor = find(stored_name);
    }
    if (name.role == Role::kOutput) {
      if (!settle_output(weight.tensor)) return;
    } else if (weight.tensor == nullptr && name.hugging_face.empty()) {
      weight.tensor = derive_rope_factors(name);
    }
    if (weight.tensor == nullptr && name.optional) return;
    if (weight.tensor == nullptr) fail(fmt::format("tensor '{}' is missing", stored_name));
    arrange(weight);
    model_.weights.push_back(std::move(weight));
  }

  /// The tensor of that name, also behind the prefix that some checkpoints have.
  const StoredTensor* find(const std::string& name) {
    if (name.empty()) return nullptr;
    const StoredTensor* tensor = model_.store.find(name);
    if (tensor == nullptr && !model_.architecture->prefix.empty()) {
      tensor = model_.store.find(std::string(model_.architecture->prefix) + name);
    }
    // Names that stand for different roles in different models: the first role has the tensor.
    if (tensor != nullptr && !used_.insert(tensor->name).second) return nullptr;
    return tensor;
  }

  /// One tensor for each expert or head; none where the first is missing.
  void find_parts(const std::string& pattern, Weight& weight) {
    const int64_t count = weight.shape.front();
    for (int64_t part = 0; part < count; ++part) {
      const std::string name = with_number(pattern, part);
      const StoredTensor* tensor = find(name);
      if (tensor == nullptr && part == 0) return;
      if (tensor == nullptr) fail(fmt::format("tensor '{}' is missing", name));
      const Shape shape(weight.shape.begin() + 1, weight.shape.end());
      check_shape(*tensor, shape);
      if (part > 0 && tensor->view.format != weight.parts.front()->view.format) {
        fail(fmt::format("tensor '{}' is in {}, the first of its kind in {}", name,
                         tensor->view.format->name, weight.parts.front()->view.format->name));
      }
      weight.parts.push_back(tensor);
    }
    weight.tensor = weight.parts.front();
  }

  /// Checks the shape and says how the stored values become ours and GGUF's.
  void arrange(Weight& weight) {
    const Architecture& architecture = *model_.architecture;
    const bool hugging_face = source_ == SourceKind::kHuggingFace;
    weight.transposed =
        hugging_face && architecture.transposed && weight.layer >= 0 && is_linear_map(weight.role);
    const int64_t unused_rows =
        hugging_face && weight.role == Role::kPositions ? model_.config.padding_positions : 0;
    if (weight.parts.empty()) {
      Shape stored = weight.transposed ? reversed(weight.shape) : weight.shape;
      stored.front() += unused_rows;
      check_shape(*weight.tensor, stored);
    }
    for (int64_t row = 0; unused_rows > 0 && row < weight.rows(); ++row) {
      weight.stored_rows.push_back(static_cast<int32_t>(row + unused_rows));
    }
    if (weight.transposed && (weight.format().block_values != 1 || weight.tensor->joined)) {
      fail(fmt::format("tensor '{}' is in {}; a matrix that lies on its side must be in floats",
                       weight.tensor->name, weight.format().name));
    }
    if (!is_linear_map(weight.role) && !weight.format().is_float()) {
      fail(fmt::format("tensor '{}' is in {}; only F32, F16 and BF16 are supported there",
                       weight.tensor->name, weight.format().name));
    }
    if (hugging_face && architecture.norms_around_one && is_norm_gain(weight.role)) {
      weight.added = 1;
    }
    if (architecture.gguf_interleaves_rope) permute(weight);
    if (model_.config.latent > 0) arrange_turned_part(weight);
    if (hugging_face && architecture.grouped_qkv && weight.role == Role::kQueryKeyValue) {
      weight.stored_rows = ungrouped_rows(model_.config);
    }
  }

  /// Whether the output layer has a tensor of its own.
  bool settle_output(const StoredTensor* tensor) {
    const bool said_tied = model_.config.tied_embeddings;
    if (said_tied && tensor != nullptr) {
      model_.warnings.push_back(fmt::format(
          "'{}' is ignored: the config ties the output layer to the embedding", tensor->name));
    }
    model_.config.tied_embeddings = said_tied || tensor == nullptr;
    return !model_.config.tied_embeddings;
  }

  /// What a GGUF has tensors for and a config.json numbers.
  std::vector<float> rope_factors(Role role) const {
    const RopeScaling& scaling = model_.config.rope_scaling;
    if (role == Role::kRopeFactorsLong) return scaling.long_factors;
    if (role == Role::kRopeFactorsShort) return scaling.short_factors;
    if (role != Role::kRopeFactors || scaling.kind != RopeScaling::Kind::kLlama3) return {};
    return rope_divisors(scaling, model_.config.rope_theta, model_.config.turned_dims());
  }

  const StoredTensor* derive_rope_factors(const TensorName& name) {
    std::vector<float> factors = rope_factors(name.role);
    if (factors.empty()) return nullptr;
    auto derived = std::make_unique<DerivedTensor>();
    derived->values = std::move(factors);
    const auto bytes = std::as_bytes(std::span<const float>(derived->values));
    const auto count = static_cast<int64_t>(derived->values.size());
    derived->tensor = {
        std::string(name.gguf), {&format_named("F32"), {count}, bytes}, &derived->no_file};
    model_.derived.push_back(std::move(derived));
    return &model_.derived.back()->tensor;
  }

  void check_shape(const StoredTensor& tensor, const Shape& expected) const {
    if (tensor.view.shape == expected) return;
    fail(fmt::format("tensor '{}' has shape {}, the config asks for {}", tensor.name,
                     shape_text(tensor.view.shape), shape_text(expected)));
  }

  void permute(Weight& weight) const {
    if (weight.role != Role::kQuery && weight.role != Role::kKey) return;
    const ModelConfig& config = model_.config;
    const int64_t heads = weight.role == Role::kQuery ? config.heads : config.kv_heads;
    weight.gguf_rows = interleaved_rows(heads, config.head_dim, true);
    if (source_ == SourceKind::kGguf) {
      weight.stored_rows = interleaved_rows(heads, config.head_dim, false);
    }
  }

  /// Under latent attention both kinds of file keep the turned dimensions last, and each pair of
  /// them side by side. Ours are the first of a head, in halves.
  void arrange_turned_part(Weight& weight) const {
    const ModelConfig& config = model_.config;
    const bool query = weight.role == Role::kQuery;
    if (!query && weight.role != Role::kLatent) return;
    const int64_t turned = config.turned_dims();
    const int64_t still = query ? config.still_dims() : config.latent;
    const int64_t first_turned = query ? 0 : still;
    const int64_t first_still = query ? turned : 0;
    weight.stored_rows.resize(static_cast<size_t>(weight.rows()));
    weight.gguf_rows.resize(weight.stored_rows.size());
    const auto pair_up = [&](int64_t ours, int64_t stored) {
      weight.stored_rows[static_cast<size_t>(ours)] = static_cast<int32_t>(stored);
      weight.gguf_rows[static_cast<size_t>(stored)] = static_cast<int32_t>(ours);
    };
    for (int64_t row = 0; row < weight.rows(); row += still + turned) {
      for (int64_t i = 0; i < still; ++i) pair_up(row + first_still + i, row + i);
      for (int64_t i = 0; i < turned; ++i) {
        const int64_t half = i / (turned / 2);
        pair_up(row + first_turned + i, row + still + 2 * (i % (turned / 2)) + half);
      }
    }
  }

  void refuse_left_over() const {
    std::vector<std::string> left;
    for (const StoredTensor& tensor : model_.store.tensors()) {
      if (used_.contains(tensor.name) || is_ignored(tensor.name)) continue;
      left.push_back(fmt::format("'{}'", tensor.name));
    }
    if (left.empty()) return;
    constexpr size_t kMostNamed = 3;
    const std::string more =
        left.size() > kMostNamed ? fmt::format(" and {} more", left.size() - kMostNamed) : "";
    if (left.size() > kMostNamed) left.resize(kMostNamed);
    fail(
        fmt::format("the {} architecture has no place for tensor {}{}; the model would not be the "
                    "same without it",
                    model_.architecture->name, join(left), more));
  }

  bool is_ignored(const std::string& name) const {
    return std::ranges::any_of(model_.architecture->ignored,
                               [&](std::string_view glob) { return glob_match(glob, name); });
  }

  Model& model_;
  SourceKind source_;
  std::unordered_set<std::string> used_;
};

}  // namespace

void find_weights(Model& model, SourceKind source) {
  WeightFinder(model, source).find_all();
}

std::vector<int32_t> interleaved_rows(int64_t heads, int64_t head_dim, bool inverse) {
  std::vector<int32_t> rows(static_cast<size_t>(heads * head_dim));
  const int64_t half = head_dim / 2;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < head_dim; ++i) {
      const int64_t split = head * head_dim + i;
      const int64_t interleaved = head * head_dim + 2 * (i % half) + i / half;
      const auto [from, to] =
          inverse ? std::pair(interleaved, split) : std::pair(split, interleaved);
      rows[static_cast<size_t>(from)] = static_cast<int32_t>(to);
    }
  }
  return rows;
}

}  // namespace fewbits
