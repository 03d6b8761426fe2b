#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/tokenizers/parts.h"

// The "model" of a tokenizer.json: BPE, WordPiece or Unigram, and the vocabulary that comes with
// it.
namespace fewbits {

/// One element of "added_tokens".
struct AddedJson {
  AddedToken token;
  bool normalized = false;  ///< looked for in the normalized text
};

/// Sets vocabulary, model and unknown token. REQUIRES: the pre-tokenizer is set. Throws Error for
/// models and options that are not known or contradict each other.
void read_json_model(const Json& model, const std::vector<AddedJson>& added, std::string_view where,
                     TokenizerParts& parts);

/// tokenizer_config.json, or null: which tokens are special, and whether BOS and EOS are added.
void read_tokenizer_config(const Json& config, std::string_view where, TokenizerParts& parts);

}  // namespace fewbits
