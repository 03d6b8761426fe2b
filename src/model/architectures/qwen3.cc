#include "model/architectures/all.h"
#include "model/architectures/llama.h"

// Qwen 3: llama with RMS norms over each head of queries and keys, before they are turned.
namespace fewbits::qwen3 {

constexpr std::array<std::string_view, 1> kModelTypes = {"qwen3"};

constexpr auto kTensors =
    names::all_of(names::kStart, names::kAttentionNorm, names::kAttention, names::kQueryKeyNorms,
                  names::kMlpNorm, names::kGatedMlp, names::kEnd);

constexpr std::array<DemandedValue, 3> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"use_sliding_window", "false"},
}};

void complete(ModelConfig& config, const Json*, std::string_view) {
  config.sliding_window = 0;
}

constinit const Architecture architecture = {
    .name = "qwen3",
    .model_types = kModelTypes,
    .gguf_name = "qwen3",
    .tensors = kTensors,
    .ignored = llama_family::kIgnored,
    .demanded = kDemanded,
    .design = {.query_key_norm = LayerDesign::QueryKeyNorm::kHead},
    .complete = complete,
};

}  // namespace fewbits::qwen3
