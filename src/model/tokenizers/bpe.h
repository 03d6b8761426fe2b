#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "model/tokenizers/merge_table.h"
#include "model/tokenizers/token_model.h"
#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// Byte-pair encoding: a word begins as its characters (byte level: its bytes); again and again the
/// pair of neighbours whose merge has the lowest rank, the leftmost of those, becomes one symbol.
///
/// Merges are given as a list, earliest first, or follow from SentencePiece's scores: there any two
/// symbols merge whose joined text is a token, the token of the highest score first. That is the
/// same process with the rank taken from the score, so both are one table and one loop.
///
/// A word of n bytes takes O(n log n) steps.
class Bpe final : public TokenModel {
 public:
  struct Options {
    bool byte_level = false;       ///< tokens spell bytes in GPT-2's alphabet
    bool ignore_merges = false;    ///< a word that is a token is that token
    bool byte_fallback = false;    ///< a character without token becomes its bytes' <0x0A> tokens
    bool fuse_unknown = false;     ///< neighbouring unknown characters are one unknown token
    std::optional<Token> unknown;  ///< without it, a character that has no token is dropped
  };
  /// Left and right text of each merge, in order of rank.
  using MergeList = std::vector<std::pair<std::string, std::string>>;

  /// `vocabulary` must outlive the model. Throws Error, beginning with `where`, for a merge of or
  /// into a text that is no token.
  static std::unique_ptr<Bpe> from_merges(const Vocabulary& vocabulary, const MergeList& merges,
                                          const Options& options, std::string_view where);
  static std::unique_ptr<Bpe> from_scores(const Vocabulary& vocabulary, const Options& options);

  void encode(const Words& words, std::vector<Token>& tokens) const override;

  const Options& options() const { return options_; }
  const MergeTable& merges() const { return merges_; }

 private:
  struct Scratch;

  Bpe(const Vocabulary& vocabulary, const Options& options);
  void learn_symbols();
  void learn_words();
  Token symbol_of_character(std::string_view character);
  void add_scored_merges(Token token, uint32_t rank);
  void find_safe_cut();

  size_t safe_cut(std::string_view word) const;
  void encode_word(std::string_view word, Scratch& scratch, std::vector<Token>& tokens) const;
  void encode_cached(std::string_view word, Scratch& scratch, std::vector<Token>& tokens) const;
  void begin_with_bytes(std::string_view word, Scratch& scratch) const;
  void begin_with_characters(std::string_view word, Scratch& scratch) const;
  bool add_byte_tokens(std::string_view character, Scratch& scratch) const;
  void add_unknown(Scratch& scratch) const;
  void merge_symbols(Scratch& scratch) const;
  void queue_pair(Scratch& scratch, int32_t left) const;
  void emit(const Scratch& scratch, std::vector<Token>& tokens) const;

  const Vocabulary& vocabulary_;
  Options options_;
  MergeTable merges_;
  std::array<Token, 256> byte_tokens_;  ///< byte level: its token; else its <0x0A>; -1: none
  std::unordered_map<int32_t, Token> symbols_;    ///< by code point
  std::unordered_map<std::string, Token> words_;  ///< ignore_merges on byte level: by raw bytes
  /// Characters that are no token but part of one: symbols behind the last token, which merge like
  /// any other and otherwise come out as unknown characters do.
  std::vector<std::string> virtual_symbols_;
  /// Where no merge reaches from another character over a following one of these (SentencePiece's
  /// space), a word can be cut in front of it and its parts be looked up in the cache.
  std::string safe_cut_;
};

}  // namespace fewbits
