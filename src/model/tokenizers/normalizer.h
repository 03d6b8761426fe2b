#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "model/tokenizers/bert_text.h"
#include "model/tokenizers/charsmap.h"
#include "model/tokenizers/pattern.h"

// The first stage: text to text, before anything is split. Runs on each stretch of text between
// added tokens.
namespace fewbits {

/// Puts a text in front of any text that is not empty (SentencePiece's leading space).
struct PrependText {
  std::string text;
};

struct ReplaceText {
  TextPattern pattern;
  std::string by;
};

/// One of Unicode's normal forms.
struct UnicodeForm {
  bool compose;
  bool compatible;
};

struct LowercaseText {};

/// Drops nonspacing marks (after NFD: the accents).
struct StripAccents {};

struct StripSpace {
  bool left;
  bool right;
};

/// SentencePiece's remove_extra_whitespaces: runs of spaces become one, those at both ends go.
struct CollapseSpaces {};

struct MapCharacters {
  Charsmap map;
  Charsmap::Way way = Charsmap::Way::kGraphemes;
};

using NormalizerStep =
    std::variant<PrependText, ReplaceText, UnicodeForm, LowercaseText, StripAccents, StripSpace,
                 CollapseSpaces, MapCharacters, BertText>;

class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(std::vector<NormalizerStep> steps) : steps_(std::move(steps)) {}
  /// The "normalizer" of a tokenizer.json, null included. Throws Error naming what is not known.
  static Normalizer from_json(const Json& json, std::string_view where);

  std::string apply(std::string text) const;
  const std::vector<NormalizerStep>& steps() const { return steps_; }

 private:
  std::vector<NormalizerStep> steps_;
};

}  // namespace fewbits
