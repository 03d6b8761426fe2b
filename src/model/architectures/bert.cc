#include "model/architectures/bert.h"

#include "model/architectures/all.h"

// BERT and its small relatives (MiniLM, BGE, GTE, E5).
namespace fewbits::bert {

constexpr std::array<std::string_view, 1> kModelTypes = {"bert"};

/// Nothing maps states back to tokens.
void complete(ModelConfig& config, const Json*, std::string_view) {
  config.tied_embeddings = true;
}

constinit const Architecture architecture = {
    .name = "bert",
    .model_types = kModelTypes,
    .gguf_name = "bert",
    .tensors = kTensors,
    .ignored = kIgnored,
    .demanded = kDemanded,
    .design = kDesign,
    .prefix = "bert.",
    .complete = complete,
};

}  // namespace fewbits::bert
