#include <algorithm>

#include "model/architectures/llama.h"

// Models of names nobody has described yet are often llamas in all but name. One whose tensors have
// Llama's names is offered as such, with a warning; a tensor beyond those, and each of these keys,
// is still refused by name.
namespace fewbits {
namespace {

constexpr auto kTensors = names::all_of(names::kStart, names::kAttentionNorm, names::kAttention,
                                        names::kMlpNorm, names::kGatedMlp, names::kEnd);

constexpr std::array<DemandedValue, 15> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"partial_rotary_factor", "1.0"},
    {"attn_logit_softcapping", "null"},
    {"final_logit_softcapping", "null"},
    {"embedding_multiplier", "1.0"},
    {"residual_multiplier", "1.0"},
    {"attention_multiplier", "null"},
    {"logits_scaling", "1.0"},
    {"logit_scale", "null"},
    {"clip_qkv", "null"},
    {"scale_emb", "1"},
    {"scale_depth", "null"},
    {"dim_model_base", "null"},
}};

constinit const Architecture kFromFolder = {
    .name = "llama (by its tensors)",
    .model_types = {},
    .gguf_name = "llama",
    .tensors = kTensors,
    .ignored = llama_family::kIgnored,
    .demanded = kDemanded,
    .gguf_interleaves_rope = true,
};

// Nearly everything but Llama itself keeps the halves of rotated pairs apart in GGUF.
constinit const Architecture kFromGguf = {
    .name = "llama (by its tensors)",
    .model_types = {},
    .gguf_name = "llama",
    .tensors = kTensors,
};

std::string in_first_layer(std::string_view pattern) {
  std::string name(pattern);
  const size_t place = name.find("{}");
  if (place == std::string::npos) return name;
  name[place] = '0';
  name.erase(place + 1, 1);
  return name;
}

}  // namespace

const Architecture* llama_shaped(const std::function<bool(const std::string&)>& has_tensor,
                                 bool gguf) {
  const bool all = std::ranges::all_of(kTensors, [&](const TensorName& name) {
    return name.optional || has_tensor(in_first_layer(gguf ? name.gguf : name.hugging_face));
  });
  if (!all) return nullptr;
  return gguf ? &kFromGguf : &kFromFolder;
}

}  // namespace fewbits
