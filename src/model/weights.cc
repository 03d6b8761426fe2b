#include "model/weights.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <unordered_set>

#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

std::string with_layer(std::string_view pattern, int64_t layer) {
  std::string name(pattern);
  const size_t place = name.find("{}");
  if (place != std::string::npos) name.replace(place, 2, std::to_string(layer));
  return name;
}

std::string shape_text(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
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
    refuse_left_over();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(fmt::format("{}: {}", model_.path.string(), what));
  }

  void add(const TensorName& name, int64_t layer) {
    const bool gguf = source_ == SourceKind::kGguf;
    const std::string stored_name = with_layer(gguf ? name.gguf : name.hugging_face, layer);
    const StoredTensor* tensor = stored_name.empty() ? nullptr : model_.store.find(stored_name);
    if (tensor != nullptr) used_.insert(tensor->name);
    if (name.role == Role::kOutput) {
      if (!settle_output(tensor)) return;
    } else if (tensor == nullptr && name.role == Role::kRopeFactors) {
      tensor = derive_rope_factors();
    }
    if (tensor == nullptr && name.optional) return;
    if (tensor == nullptr) fail(fmt::format("tensor '{}' is missing", stored_name));
    check_shape(*tensor, name.role);
    Weight weight{with_layer(name.gguf, layer), name.role, layer, tensor, {}, {}};
    if (model_.architecture->gguf_interleaves_rope) permute(weight);
    model_.weights.push_back(std::move(weight));
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

  const StoredTensor* derive_rope_factors() {
    std::vector<float> factors = llama3_rope_factors(model_.config);
    if (factors.empty()) return nullptr;
    auto derived = std::make_unique<DerivedTensor>();
    derived->values = std::move(factors);
    const auto bytes = std::as_bytes(std::span<const float>(derived->values));
    const auto count = static_cast<int64_t>(derived->values.size());
    derived->tensor = {
        "rope_freqs.weight", {&format_named("F32"), {count}, bytes}, &derived->no_file};
    model_.derived.push_back(std::move(derived));
    return &model_.derived.back()->tensor;
  }

  void check_shape(const StoredTensor& tensor, Role role) const {
    const Shape expected = expected_shape(role, model_.config);
    if (tensor.view.shape != expected) {
      fail(fmt::format("tensor '{}' has shape {}, the config asks for {}", tensor.name,
                       shape_text(tensor.view.shape), shape_text(expected)));
    }
    if (expected.size() == 1 && !tensor.view.format->is_float()) {
      fail(fmt::format("tensor '{}' is a vector in {}; only F32, F16 and BF16 are supported there",
                       tensor.name, tensor.view.format->name));
    }
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
