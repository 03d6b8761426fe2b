#include "model/architecture.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "model/config_parts.h"

namespace fewbits {
namespace {

/// The architecture for which `matches` holds, or the Error that quotes `place` and lists what
/// `add_names` gives.
template <class Matches, class Names>
const Architecture& find_architecture(Matches matches, Names add_names, std::string_view where,
                                      const std::string& place) {
  std::vector<std::string> known;
  for (const Architecture* architecture : architectures()) {
    if (matches(*architecture)) return *architecture;
    add_names(*architecture, known);
  }
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  throw Error(fmt::format("{}: {}", where, unknown_name(place, "known architecture", known)));
}

Shape head_norm_shape(const ModelConfig& config, int64_t heads) {
  using Kind = LayerDesign::QueryKeyNorm;
  switch (config.design.query_key_norm) {
    case Kind::kEachHead:
      return {heads, config.head_dim};
    case Kind::kRow:
      return {heads * config.head_dim};
    default:
      return {config.head_dim};
  }
}

/// The feed-forward part, and vectors as wide as the hidden state.
Shape shape_of_rest(Role role, const ModelConfig& config) {
  switch (role) {
    case Role::kGate:
    case Role::kUp:
      return {config.ffn, config.hidden};
    case Role::kUpBias:
      return {config.ffn};
    case Role::kGateUp:
      return {2 * config.ffn, config.hidden};
    case Role::kDown:
      return {config.hidden, config.ffn};
    case Role::kSharedGate:
    case Role::kSharedUp:
      return {config.shared_ffn, config.hidden};
    case Role::kSharedDown:
      return {config.hidden, config.shared_ffn};
    case Role::kRouter:
      return {config.experts, config.hidden};
    case Role::kExpertGate:
    case Role::kExpertUp:
      return {config.experts, config.expert_ffn, config.hidden};
    case Role::kExpertDown:
      return {config.experts, config.hidden, config.expert_ffn};
    default:
      return {config.hidden};
  }
}

}  // namespace

Shape expected_shape(Role role, const ModelConfig& config) {
  const int64_t query_rows = config.heads * config.head_dim;
  const int64_t kv_rows = config.kv_heads * config.head_dim;
  switch (role) {
    case Role::kEmbedding:
    case Role::kOutput:
      return {config.vocabulary, config.hidden};
    case Role::kOutputBias:
      return {config.vocabulary};
    case Role::kTokenTypes:
      return {config.token_types, config.hidden};
    case Role::kPositions:
      return {config.context + config.position_offset, config.hidden};
    case Role::kRopeFactors:
    case Role::kRopeFactorsLong:
    case Role::kRopeFactorsShort:
      return {config.turned_dims() / 2};
    case Role::kQuery:
      return {query_rows, config.hidden};
    case Role::kQueryBias:
      return {query_rows};
    case Role::kKey:
    case Role::kValue:
      return {kv_rows, config.hidden};
    case Role::kKeyBias:
    case Role::kValueBias:
      return {kv_rows};
    case Role::kQueryKeyValue:
      return {query_rows + 2 * kv_rows, config.hidden};
    case Role::kQueryKeyValueBias:
      return {query_rows + 2 * kv_rows};
    case Role::kQueryNorm:
      return head_norm_shape(config, config.heads);
    case Role::kKeyNorm:
      return head_norm_shape(config, config.kv_heads);
    case Role::kLatent:
      return {config.latent + config.turned_dims(), config.hidden};
    case Role::kLatentNorm:
      return {config.latent};
    case Role::kKeyValue:
      return {config.heads * (config.still_dims() + config.value_size()), config.latent};
    case Role::kKeyFromLatent:
      return {config.heads, config.latent, config.still_dims()};
    case Role::kValueFromLatent:
      return {config.heads, config.value_size(), config.latent};
    case Role::kAttentionOutput:
      return {config.hidden, config.heads * config.value_size()};
    default:
      return shape_of_rest(role, config);
  }
}

bool is_linear_map(Role role) {
  using enum Role;
  switch (role) {
    case kEmbedding:
    case kOutput:
    case kQuery:
    case kKey:
    case kValue:
    case kQueryKeyValue:
    case kLatent:
    case kKeyValue:
    case kKeyFromLatent:
    case kValueFromLatent:
    case kAttentionOutput:
    case kGate:
    case kUp:
    case kGateUp:
    case kDown:
    case kExpertGate:
    case kExpertUp:
    case kExpertDown:
    case kSharedGate:
    case kSharedUp:
    case kSharedDown:
      return true;
    default:
      return false;
  }
}

bool is_known_architecture(const Json& config) {
  const auto type = config.find("model_type");
  return type != config.end() && std::ranges::any_of(architectures(), [&](const Architecture* a) {
           return std::ranges::any_of(a->model_types, [&](auto known) { return *type == known; });
         });
}

bool is_known_architecture(const Metadata& metadata) {
  const auto name = metadata.string("general.architecture");
  return name && std::ranges::any_of(architectures(),
                                     [&](const Architecture* a) { return a->gguf_name == *name; });
}

const Architecture& architecture_of(const Json& config, std::string_view where) {
  const std::string type = json_string(config, "model_type", where);
  return find_architecture(
      [&](const Architecture& a) {
        return std::ranges::find(a.model_types, type) != a.model_types.end();
      },
      [](const Architecture& a, auto& known) {
        known.insert(known.end(), a.model_types.begin(), a.model_types.end());
      },
      where, fmt::format("model_type: \"{}\"", type));
}

const Architecture& architecture_of(const Metadata& metadata, std::string_view where) {
  const auto name = metadata.string("general.architecture");
  if (!name) throw Error(fmt::format("{}: metadata key 'general.architecture' is missing", where));
  return find_architecture(
      [&](const Architecture& a) { return a.gguf_name == *name; },
      [](const Architecture& a, auto& known) { known.emplace_back(a.gguf_name); }, where,
      fmt::format("general.architecture: \"{}\"", *name));
}

int64_t derived_head_dim(const ModelConfig& config, std::string_view where) {
  if (config.heads < 1) return 0;  // check_config says what is wrong
  if (config.hidden % config.heads == 0) return config.hidden / config.heads;
  throw Error(fmt::format(
      "{}: hidden size {} is no multiple of {} attention heads, and no head size is given", where,
      config.hidden, config.heads));
}

bool has_role(const Architecture& architecture, Role role) {
  return std::ranges::any_of(architecture.tensors,
                             [&](const TensorName& name) { return name.role == role; });
}

int64_t checked_product(int64_t a, int64_t b, std::string_view name, std::string_view where) {
  constexpr int64_t kMost = int64_t{1} << 22;
  if (a >= 0 && b >= 0 && (b == 0 || a <= kMost / b)) return a * b;
  throw Error(fmt::format("{}: {} are {} times {}, must be at most {}", where, name, a, b, kMost));
}

int64_t full_period_of(const std::vector<bool>& full, bool full_first, std::string_view where) {
  const size_t behind = full_first ? 0 : 1;  // the first full layer stands at period - behind
  const auto from = full.begin() + static_cast<ptrdiff_t>(1 - behind);
  const auto first = full.size() < 2 ? full.end() : std::find(from, full.end(), true);
  if (first == full.end()) return 0;
  const auto period = static_cast<size_t>(first - full.begin()) + behind;
  for (size_t i = 0; i < full.size(); ++i) {
    if (full[i] == ((i + behind) % period == 0)) continue;
    throw Error(
        fmt::format("{}: 'layer_types' has no full attention layer every {}", where, period));
  }
  return static_cast<int64_t>(period);
}

}  // namespace fewbits
