#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "model/tokenizers/pattern.h"
#include "model/tokenizers/utf8.h"

// The second stage: normalized text to words. The model works on each word alone.
namespace fewbits {

/// Words as stretches of one text, in order, none empty.
struct Words {
  std::string text;
  std::vector<ByteRange> ranges;
};

/// What becomes of the stretches that match: names and meaning are Hugging Face's.
enum class SplitBehavior {
  kIsolated,            ///< a word each
  kRemoved,             ///< dropped
  kContiguous,          ///< neighbours are one word
  kMergedWithPrevious,  ///< each ends the word before it
  kMergedWithNext,      ///< each begins the word behind it
};

struct SplitText {
  TextPattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  ///< what does not match counts as the match
};

/// A space in front of every word that has none.
struct PrefixSpace {};

/// SentencePiece's way with spaces: each becomes `replacement`, one more goes in front.
struct MarkSpaces {
  enum class Prepend { kNever, kFirst, kAlways };
  std::string replacement;
  Prepend prepend = Prepend::kAlways;  ///< kFirst: only where the text begins, not behind a token
  bool split = true;                   ///< every mark begins a word
};

/// White space goes, punctuation characters are words of their own: BERT's pre-tokenizer.
struct SplitBert {};

using PreTokenizerStep = std::variant<SplitText, PrefixSpace, MarkSpaces, SplitBert>;

/// GPT-2's expression, which ByteLevel stands for.
inline constexpr std::string_view kGpt2Expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

class PreTokenizer {
 public:
  PreTokenizer() = default;
  PreTokenizer(std::vector<PreTokenizerStep> steps, bool byte_level)
      : steps_(std::move(steps)), byte_level_(byte_level) {}
  /// The "pre_tokenizer" of a tokenizer.json, null included. Throws Error naming what is not known.
  static PreTokenizer from_json(const Json& json, std::string_view where);

  /// `at_start`: nothing, not even an added token, stands before this text.
  Words apply(std::string text, bool at_start) const;

  /// Whether the vocabulary spells bytes in GPT-2's alphabet.
  bool byte_level() const { return byte_level_; }
  const std::vector<PreTokenizerStep>& steps() const { return steps_; }

 private:
  std::vector<PreTokenizerStep> steps_;
  bool byte_level_ = false;
};

}  // namespace fewbits
