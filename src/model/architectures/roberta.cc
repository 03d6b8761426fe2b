#include "model/architectures/all.h"
#include "model/architectures/bert.h"

// RoBERTa and XLM-RoBERTa: BERT with other tokenizers, whose table of positions begins with rows
// for padding that no token has. GGUF leaves those out and calls the rest BERT.
namespace fewbits::roberta {

constexpr std::array<std::string_view, 2> kModelTypes = {"roberta", "xlm-roberta"};

void complete(ModelConfig& config, const Json* json, std::string_view where) {
  config.tied_embeddings = true;
  if (json == nullptr) return;
  constexpr int64_t kMostOffset = 16;
  config.padding_positions = json_integer_or(*json, "pad_token_id", 1, where) + 1;
  if (config.padding_positions < 0 || config.padding_positions > kMostOffset)
    config.padding_positions = 2;
  config.context -= config.padding_positions;
}

constinit const Architecture architecture = {
    .name = "roberta",
    .model_types = kModelTypes,
    .gguf_name = "bert",
    .tensors = bert::kTensors,
    .ignored = bert::kIgnored,
    .demanded = bert::kDemanded,
    .design = bert::kDesign,
    .prefix = "roberta.",
    .complete = complete,
};

}  // namespace fewbits::roberta
