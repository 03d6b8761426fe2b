#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "files/metadata.h"

namespace fewbits {

using Token = int32_t;

/// Text <-> tokens, equal to the tokenizer the model was trained with: byte-level and
/// SentencePiece BPE, Unigram and WordPiece, from a Hugging Face tokenizer.json, a SentencePiece
/// tokenizer.model or GGUF metadata. Immutable and safe to share between threads once built.
/// Movable. Its parts are in tokenizers/.
class Tokenizer {
 public:
  /// `config` is tokenizer_config.json or null. Throws Error naming the part of the JSON that is
  /// unknown or wrong.
  static Tokenizer from_json(const Json& tokenizer, const Json& config, std::string_view where);
  /// A tokenizer.model: a ModelProto of SentencePiece. Throws Error where it is none.
  static Tokenizer from_sentence_piece(std::string_view bytes, const Json& config,
                                       std::string_view where);
  /// tokenizer.json of a Hugging Face folder or, where it is missing, tokenizer.model or
  /// spiece.model. Throws Error where there is none of them.
  static Tokenizer from_folder(const std::filesystem::path& folder, const Json& config);
  static Tokenizer from_gguf(const Metadata& metadata, std::string_view where);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  /// Whether "<|im_end|>" in the text is ten characters or the token.
  enum class Special { kAsText, kParse };

  /// No BOS or EOS is added; see encode_with_bos. Each byte that is not valid UTF-8 is kept where
  /// the vocabulary has tokens for single bytes (SentencePiece), else it counts as U+FFFD.
  /// Throws Error for a text of more than 1 GiB.
  std::vector<Token> encode(std::string_view text, Special special = Special::kAsText) const;
  /// encode, with BOS and EOS (or whatever else the model's template asks for) where the model adds
  /// them.
  std::vector<Token> encode_with_bos(std::string_view text,
                                     Special special = Special::kAsText) const;

  /// The bytes of one token as they appear in running text; perhaps only a part of a character.
  /// Control tokens give "" unless `show_special`, and so does a number that is no token.
  std::string piece(Token token, bool show_special = false) const;
  /// The whole text: the pieces, without the space that SentencePiece puts in front of a text.
  std::string decode(std::span<const Token> tokens, bool show_special = false) const;

  int64_t size() const;
  std::optional<Token> bos() const;
  std::optional<Token> eos() const;
  bool adds_bos() const;
  bool adds_eos() const;
  /// Tokens after which generation stops: EOS and the end-of-turn tokens the vocabulary has.
  bool ends_generation(Token token) const;
  bool is_control(Token token) const;
  /// The id of exactly this token text ("<|im_end|>"), if the vocabulary has it.
  std::optional<Token> find(std::string_view token_text) const;
  /// The token's raw text as stored in the vocabulary; "" for a number that is no token.
  std::string_view text(Token token) const;

  /// Writes the tokenizer.ggml.* keys, so that stock llama.cpp gives the same tokens. Throws Error
  /// where GGUF has no way to say what this tokenizer does.
  void write_gguf(Metadata& metadata) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace fewbits
