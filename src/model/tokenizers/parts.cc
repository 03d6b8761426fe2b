#include "model/tokenizers/parts.h"

#include <algorithm>
#include <array>

namespace fewbits {
namespace {

// Chat models end their turn with a token of their own beside EOS. Files often do not say so; these
// are the names in use.
constexpr std::array<std::string_view, 16> kEndOfTurn = {
    "<EOT>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<eos>",
    "<|call|>",
    "<|end_of_text|>",
    "<|end|>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<|return|>",
    "<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
    "[EOS]",
    "[EOT]",
    "_<EOT>",
};

bool works_on_bytes(const NormalizerStep& step) {
  if (const auto* replace = std::get_if<ReplaceText>(&step)) return !replace->pattern.is_regex();
  return std::holds_alternative<PrependText>(step) || std::holds_alternative<CollapseSpaces>(step);
}

bool works_on_bytes(const PreTokenizerStep& step) {
  if (const auto* split = std::get_if<SplitText>(&step)) return !split->pattern.is_regex();
  return !std::holds_alternative<SplitBert>(step);
}

}  // namespace

bool is_end_of_turn(std::string_view token_text) {
  return std::ranges::find(kEndOfTurn, token_text) != kEndOfTurn.end();
}

void finish_tokenizer(TokenizerParts& parts) {
  if (parts.eos) parts.end_tokens.push_back(*parts.eos);
  for (const std::string_view name : kEndOfTurn) {
    if (const auto token = parts.vocabulary.find(name)) parts.end_tokens.push_back(*token);
  }
  std::ranges::sort(parts.end_tokens);
  const auto repeated = std::unique(parts.end_tokens.begin(), parts.end_tokens.end());
  parts.end_tokens.erase(repeated, parts.end_tokens.end());

  const auto on_bytes = [](const auto& step) { return works_on_bytes(step); };
  parts.keeps_invalid_bytes = parts.bpe != nullptr && parts.bpe->options().byte_fallback &&
                              std::ranges::all_of(parts.normalizer.steps(), on_bytes) &&
                              std::ranges::all_of(parts.pre_tokenizer.steps(), on_bytes);
}

}  // namespace fewbits
