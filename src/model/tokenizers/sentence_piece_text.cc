#include "model/tokenizers/sentence_piece_text.h"

#include <limits>

namespace fewbits {
namespace {

constexpr const char* kSpaceMark = "\u2581";

}  // namespace

Normalizer normalizer_of(SentencePieceText text, std::string_view where) {
  std::vector<NormalizerStep> steps;
  if (!text.charsmap.empty()) {
    steps.emplace_back(MapCharacters{Charsmap::from_bytes(std::move(text.charsmap), where),
                                     Charsmap::Way::kLongest});
  }
  if (text.collapse) steps.emplace_back(CollapseSpaces{});
  if (text.prefix) steps.emplace_back(PrependText{kSpaceMark});
  steps.emplace_back(ReplaceText{TextPattern::literal(" "), kSpaceMark});
  return Normalizer(std::move(steps));
}

Decoder decoder_of_marks(bool prefix) {
  std::vector<DecoderStep> text_steps;
  if (prefix) text_steps.emplace_back(DecodeStrip{" ", 1, 0});
  std::vector<DecoderStep> token_steps;
  token_steps.emplace_back(DecodeReplace{TextPattern::literal(kSpaceMark), " "});
  token_steps.emplace_back(DecodeByteFallback{});
  return Decoder(std::move(token_steps), std::move(text_steps));
}

std::vector<double> scores_of_text(const Vocabulary& vocabulary) {
  std::vector<double> scores;
  scores.reserve(static_cast<size_t>(vocabulary.size()));
  for (const VocabularyEntry& entry : vocabulary.entries()) {
    scores.push_back(entry.kind == TokenKind::kNormal ? static_cast<double>(entry.score)
                                                      : std::numeric_limits<double>::quiet_NaN());
  }
  return scores;
}

}  // namespace fewbits
