#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizers/utf8.h"

// BERT's own way with text, before WordPiece (Hugging Face's BertNormalizer and BertPreTokenizer).
namespace fewbits {

struct BertText {
  bool clean = true;          ///< control characters go, white space becomes a space
  bool space_chinese = true;  ///< a space on both sides of each Chinese character
  bool strip_accents = true;  ///< canonical decomposition without nonspacing marks
  bool lowercase = true;
};

std::string apply_bert(const BertText& step, std::string_view text);

/// Cuts `word` at white space, which is dropped, and around each punctuation character.
void split_bert(std::string_view text, ByteRange word, std::vector<ByteRange>& words);

}  // namespace fewbits
