#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "model/tokenizers/pattern.h"

// The last stage, the way back: the texts of tokens to running text.
namespace fewbits {

/// The bytes that GPT-2's alphabet spells; a text with other characters is itself.
struct DecodeByteLevel {};

/// "<0x0A>" is that byte.
struct DecodeByteFallback {};

struct DecodeReplace {
  TextPattern pattern;
  std::string by;
};

/// Each mark is a space; at the very beginning of the text it is nothing.
struct DecodeMarks {
  std::string mark;
  bool drop_first = true;
};

/// Takes up to so many of one character from the front and the end.
struct DecodeStrip {
  std::string character;
  int64_t front = 0;
  int64_t end = 0;
};

/// WordPiece: a token with the mark continues the word before it, every other begins one.
struct DecodeWordPiece {
  std::string mark;
};

/// Takes back the spaces that WordPiece puts in front of punctuation and contractions.
struct DecodeCleanUp {};

using DecoderStep = std::variant<DecodeByteLevel, DecodeByteFallback, DecodeReplace, DecodeMarks,
                                 DecodeStrip, DecodeWordPiece, DecodeCleanUp>;

class Decoder {
 public:
  Decoder() = default;
  /// `token_steps` run on each token, `text_steps` on all of it together.
  Decoder(std::vector<DecoderStep> token_steps, std::vector<DecoderStep> text_steps)
      : token_steps_(std::move(token_steps)), text_steps_(std::move(text_steps)) {}
  /// The "decoder" of a tokenizer.json, null included. Throws Error naming what is not known.
  static Decoder from_json(const Json& json, std::string_view where);

  /// What one token adds to the text; `first`: it begins the text.
  std::string piece(std::string token_text, bool first) const;
  /// The whole text from its pieces.
  std::string finish(std::string text) const;

 private:
  std::vector<DecoderStep> token_steps_;
  std::vector<DecoderStep> text_steps_;
};

}  // namespace fewbits
