#pragma once

#include "files/metadata.h"
#include "model/tokenizers/parts.h"

// The two tokenizers of GGUF that are no BPE. Both throw Error where GGUF cannot say what the
// tokenizer does. Special tokens are not written here.
namespace fewbits {

/// "bert". REQUIRES: the model is WordPiece.
void write_word_piece(const TokenizerParts& parts, Metadata& metadata);
/// "t5". REQUIRES: the model is Unigram.
void write_unigram(const TokenizerParts& parts, Metadata& metadata);

}  // namespace fewbits
