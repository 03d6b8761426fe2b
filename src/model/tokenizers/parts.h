#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "files/metadata.h"
#include "model/tokenizers/added_tokens.h"
#include "model/tokenizers/bpe.h"
#include "model/tokenizers/decoder.h"
#include "model/tokenizers/normalizer.h"
#include "model/tokenizers/pre_tokenizer.h"
#include "model/tokenizers/unigram.h"
#include "model/tokenizers/vocabulary.h"
#include "model/tokenizers/word_piece.h"

namespace fewbits {

/// A tokenizer, taken apart:
///
///   text -> added tokens -> normalizer -> pre-tokenizer -> model -> tokens
///                                         tokens -> decoder -> text
///
/// Whatever file it comes from, these are its parts. Stays where it was made: the model refers to
/// the vocabulary.
struct TokenizerParts {
  Vocabulary vocabulary;
  AddedTokens raw_tokens;  ///< found in the text as it comes
  Normalizer normalizer;
  AddedTokens normalized_tokens;  ///< found in the normalized text
  PreTokenizer pre_tokenizer;
  std::unique_ptr<const TokenModel> model;
  // The model, as what it is.
  const Bpe* bpe = nullptr;
  const WordPiece* word_piece = nullptr;
  const Unigram* unigram = nullptr;
  Decoder decoder;
  std::vector<Token> prefix;  ///< what the model wants in front of a text, mostly BOS
  std::vector<Token> suffix;
  std::optional<Token> bos;
  std::optional<Token> eos;
  std::optional<Token> unknown;
  std::optional<Token> padding;
  std::optional<Token> mask;
  std::vector<Token> end_tokens;  ///< sorted: after these, generation stops
  bool keeps_invalid_bytes =
      false;             ///< no part needs valid UTF-8, and the model can spell any byte
  std::string gguf_pre;  ///< tokenizer.ggml.pre of the GGUF it came from; "": from elsewhere

  void set_model(std::unique_ptr<const Bpe> made) {
    bpe = made.get();
    model = std::move(made);
  }
  void set_model(std::unique_ptr<const WordPiece> made) {
    word_piece = made.get();
    model = std::move(made);
  }
  void set_model(std::unique_ptr<const Unigram> made) {
    unigram = made.get();
    model = std::move(made);
  }

  TokenizerParts() = default;
  TokenizerParts(const TokenizerParts&) = delete;
  TokenizerParts& operator=(const TokenizerParts&) = delete;
};

std::unique_ptr<TokenizerParts> tokenizer_from_json(const Json& tokenizer, const Json& config,
                                                    std::string_view where);
std::unique_ptr<TokenizerParts> tokenizer_from_gguf(const Metadata& metadata,
                                                    std::string_view where);
void tokenizer_to_gguf(const TokenizerParts& parts, Metadata& metadata);

/// Fills in what follows from the parts that both readers set: the tokens that end generation, by
/// EOS and by name, and whether invalid bytes can stay.
void finish_tokenizer(TokenizerParts& parts);

/// Whether a token of this text ends a turn, whatever the file says of it.
bool is_end_of_turn(std::string_view token_text);

}  // namespace fewbits
