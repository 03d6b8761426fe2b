#include "model/architectures/all.h"
#include "model/architectures/llama.h"

// Qwen 3's mixtures of experts: the layer of Qwen 3 with experts smaller than its feed-forward part
// would be; the weights of those a token goes to add up to one.
namespace fewbits::qwen3_moe {

constexpr std::array<std::string_view, 1> kModelTypes = {"qwen3_moe"};

constexpr auto kTensors =
    names::all_of(names::kStart, names::kAttentionNorm, names::kAttention, names::kQueryKeyNorms,
                  names::kMlpNorm, names::kExperts, names::kEnd);

constexpr std::array<DemandedValue, 6> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"use_sliding_window", "false"},
    {"norm_topk_prob", "true"},
    {"decoder_sparse_step", "1"},
    {"mlp_only_layers", "[]"},
}};

void complete(ModelConfig& config, const Json*, std::string_view) {
  config.sliding_window = 0;
}

constinit const Architecture architecture = {
    .name = "qwen3_moe",
    .model_types = kModelTypes,
    .gguf_name = "qwen3moe",
    .tensors = kTensors,
    .ignored = llama_family::kIgnored,
    .demanded = kDemanded,
    .design = {.query_key_norm = LayerDesign::QueryKeyNorm::kHead},
    .complete = complete,
};

}  // namespace fewbits::qwen3_moe
