#pragma once

#include <memory>
#include <string_view>

#include "model/tokenizers/parts.h"

namespace fewbits {

/// A tokenizer.model: the ModelProto of SentencePiece (github.com/google/sentencepiece,
/// sentencepiece_model.proto), of which these fields are read:
///
///   1 pieces           {1 text, 2 score, 3 type: 1 normal .. 6 byte, as in GGUF}, in order of ids
///   2 trainer_spec     {3 model_type, 35 byte_fallback, 40 to 43 ids of unk, bos, eos, pad}
///   3 normalizer_spec  {2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces,
///                       5 escape_whitespaces}
///
/// `config` is tokenizer_config.json or null; without it BOS is put in front of BPE models, as
/// Llama wants it, and EOS behind Unigram models, as T5 wants it.
std::unique_ptr<TokenizerParts> tokenizer_from_sentence_piece(std::string_view bytes,
                                                              const Json& config,
                                                              std::string_view where);

}  // namespace fewbits
