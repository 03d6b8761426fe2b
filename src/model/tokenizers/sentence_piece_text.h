#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizers/decoder.h"
#include "model/tokenizers/normalizer.h"
#include "model/tokenizers/vocabulary.h"

// SentencePiece's way with text, as its own files and GGUF say it.
namespace fewbits {

struct SentencePieceText {
  std::string charsmap = {};  ///< "": no rules
  bool prefix = false;        ///< a space in front of the text
  bool collapse = false;      ///< runs of spaces become one, those at both ends go
};

/// Throws Error, beginning with `where`, for a broken charsmap.
Normalizer normalizer_of(SentencePieceText text, std::string_view where);

/// Marks become spaces again, bytes become bytes, and the first space goes where one was put there.
Decoder decoder_of_marks(bool prefix);

/// Unigram's scores: those of normal tokens. NaN for the others, which no text becomes.
std::vector<double> scores_of_text(const Vocabulary& vocabulary);

}  // namespace fewbits
