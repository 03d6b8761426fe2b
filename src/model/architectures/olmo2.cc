#include "model/architectures/all.h"
#include "model/architectures/gemma.h"

// OLMo 2 and 3: no norms before the parts of a layer, only after them, and one over all heads of
// the queries and one over all of the keys. (OLMo Team, arXiv 2501.00656)
namespace fewbits::olmo2 {

constexpr std::array<std::string_view, 2> kModelTypes = {"olmo2", "olmo3"};

constexpr auto kTensors = names::all_of(names::kStart, names::kAttention, names::kQueryKeyNorms,
                                        gemma_family::kAttentionPostNorm, names::kGatedMlp,
                                        gemma_family::kMlpPostNorm, names::kEnd);

constexpr std::array<DemandedValue, 2> kDemanded = {{
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
}};

/// Scaling is for the layers that see everything.
void complete(ModelConfig& config, const Json*, std::string_view) {
  if (config.sliding_window > 0) config.rope_theta_local = config.rope_theta;
}

constinit const Architecture architecture = {
    .name = "olmo2",
    .model_types = kModelTypes,
    .gguf_name = "olmo2",
    .tensors = kTensors,
    .demanded = kDemanded,
    .design = {.query_key_norm = LayerDesign::QueryKeyNorm::kRow},
    .full_period = 4,
    .complete = complete,
};

}  // namespace fewbits::olmo2
