#include "model/architectures/all.h"
#include "model/architectures/llama.h"

// Qwen 2 and 2.5: llama with biases on query, key and value.
namespace fewbits::qwen2 {

constexpr std::array<std::string_view, 1> kModelTypes = {"qwen2"};

constexpr auto kTensors =
    names::all_of(names::kStart, names::kAttentionNorm, names::kAttention, names::kQkvBiases,
                  names::kMlpNorm, names::kGatedMlp, names::kEnd);

// Layers before max_window_layers see everything and the others slide: no published model does.
constexpr std::array<DemandedValue, 2> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"use_sliding_window", "false"},
}};

void complete(ModelConfig& config, const Json*, std::string_view) {
  config.sliding_window = 0;  // configs name a window and, by another key, that it is not used
}

constinit const Architecture architecture = {
    .name = "qwen2",
    .model_types = kModelTypes,
    .gguf_name = "qwen2",
    .tensors = kTensors,
    .ignored = llama_family::kIgnored,
    .demanded = kDemanded,
    .complete = complete,
};

}  // namespace fewbits::qwen2
