#include "model/architectures/all.h"
#include "model/architectures/gemma.h"

// Gemma 3, text: five layers that slide for each that sees everything, each kind with a rotary base
// of its own; norms over each head of queries and keys instead of caps.
namespace fewbits::gemma3 {

constexpr std::array<std::string_view, 1> kModelTypes = {"gemma3_text"};
constexpr int64_t kLayersOf27B = 62;
constexpr double kLocalTheta = 10000;

constexpr auto kTensors =
    names::all_of(names::kStart, names::kAttentionNorm, names::kAttention, names::kQueryKeyNorms,
                  gemma_family::kAttentionPostNorm, gemma_family::kMlpNorm, names::kGatedMlp,
                  gemma_family::kMlpPostNorm, names::kEnd);

constexpr std::array<DemandedValue, 4> kDemanded = {{
    {"hidden_activation", "\"gelu_pytorch_tanh\""},
    {"attention_bias", "false"},
    {"attn_logit_softcapping", "null"},
    {"use_bidirectional_attention", "false"},
}};

constexpr std::array<NumberKey, 3> kNumbers = {{
    gemma_family::kAttentionScale,
    {"final_logit_softcapping", "final_logit_softcapping", &ModelConfig::logit_cap},
    {"rope_local_base_freq", "", &ModelConfig::rope_theta_local},
}};

// The multimodal models' config.json states only what differs from transformers' class.
constexpr std::string_view kDefaults = R"({
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208,
    "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
    "query_pre_attn_scalar": 256})";

// Text is what this program is for.
constexpr std::array<std::string_view, 2> kIgnored = {"vision_tower.*", "multi_modal_projector.*"};

void complete(ModelConfig& config, const Json* json, std::string_view where) {
  gemma_family::complete(config, json, kLayersOf27B, where);
  if (config.rope_theta_local == 0) config.rope_theta_local = kLocalTheta;
}

constinit const Architecture architecture = {
    .name = "gemma3",
    .model_types = kModelTypes,
    .gguf_name = "gemma3",
    .tensors = kTensors,
    .ignored = kIgnored,
    .demanded = kDemanded,
    .design = {.activation = LayerDesign::Activation::kGeluTanh,
               .query_key_norm = LayerDesign::QueryKeyNorm::kHead},
    .numbers = kNumbers,
    .defaults = kDefaults,
    .prefix = "language_model.",
    .tied_by_default = true,
    .norms_around_one = true,
    .full_period = 6,
    .complete = complete,
};

}  // namespace fewbits::gemma3
