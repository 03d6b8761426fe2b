#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/architecture.h"
#include "model/gguf_keys.h"

// What reading a config.json and reading a GGUF's keys have in common.
namespace fewbits {

// What transformers' LlamaConfig takes where a key is missing.
inline constexpr double kDefaultTheta = 10000;

/// Hidden size over heads. Throws Error where that is no whole number.
int64_t derived_head_dim(const ModelConfig& config, std::string_view where);

/// Whether the description has a place for such a tensor.
bool has_role(const Architecture& architecture, Role role);

/// Throws Error where one of two sizes is negative or their product absurd.
int64_t checked_product(int64_t a, int64_t b, std::string_view name, std::string_view where);

/// Every how many layers one sees all tokens, from the list of all layers: the last of each such
/// group, or the first where `full_first`. 0: none does.
int64_t full_period_of(const std::vector<bool>& full, bool full_first, std::string_view where);

/// By config.json's rope_scaling or rope_parameters; kNone where both are missing.
RopeScaling read_rope_scaling(const Json& rope, const Json& config, std::string_view where);

/// By the ARCH.rope.scaling keys of a GGUF, and the way back.
RopeScaling read_rope_scaling(const GgufKeys& keys, std::string_view where);
void write_rope_scaling(const RopeScaling& scaling, const GgufKeys& keys, Metadata& metadata);

}  // namespace fewbits
