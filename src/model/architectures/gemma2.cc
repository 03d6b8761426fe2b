#include "model/architectures/all.h"
#include "model/architectures/gemma.h"

// Gemma 2: every second layer slides, and scores and logits are capped softly.
namespace fewbits::gemma2 {

constexpr std::array<std::string_view, 1> kModelTypes = {"gemma2"};
constexpr int64_t kLayersOf27B = 46;

constexpr auto kTensors = names::all_of(names::kStart, names::kAttentionNorm, names::kAttention,
                                        gemma_family::kAttentionPostNorm, gemma_family::kMlpNorm,
                                        names::kGatedMlp, gemma_family::kMlpPostNorm, names::kEnd);

constexpr std::array<DemandedValue, 2> kDemanded = {{
    {"hidden_activation", "\"gelu_pytorch_tanh\""},
    {"attention_bias", "false"},
}};

constexpr std::array<NumberKey, 3> kNumbers = {{
    gemma_family::kAttentionScale,
    {"attn_logit_softcapping", "attn_logit_softcapping", &ModelConfig::attention_cap},
    {"final_logit_softcapping", "final_logit_softcapping", &ModelConfig::logit_cap},
}};

void complete(ModelConfig& config, const Json* json, std::string_view where) {
  gemma_family::complete(config, json, kLayersOf27B, where);
}

constinit const Architecture architecture = {
    .name = "gemma2",
    .model_types = kModelTypes,
    .gguf_name = "gemma2",
    .tensors = kTensors,
    .demanded = kDemanded,
    .design = {.activation = LayerDesign::Activation::kGeluTanh},
    .numbers = kNumbers,
    .tied_by_default = true,
    .norms_around_one = true,
    .full_period = 2,
    .complete = complete,
};

}  // namespace fewbits::gemma2
