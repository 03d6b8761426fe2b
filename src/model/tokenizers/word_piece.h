#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizers/prefix_trie.h"
#include "model/tokenizers/token_model.h"
#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// BERT's WordPiece (Schuster and Nakajima 2012, as in BERT's own tokenizer): the longest token a
/// word begins with, then the longest that continues it, and so on. A word that cannot be spelled
/// to its end is one unknown token.
///
/// How the vocabulary tells the two kinds of token apart differs: Hugging Face marks what continues
/// a word ("##ing"), GGUF what begins one ("U+2581 the").
///
/// A word of n bytes takes O(n * longest token) steps.
class WordPiece final : public TokenModel {
 public:
  struct Options {
    std::string begin_mark = {};       ///< in front of tokens that begin a word
    std::string continue_mark = "##";  ///< in front of tokens that continue one
    int64_t max_characters = 100;      ///< a longer word is unknown
    Token unknown = 0;
  };
  /// `is_piece`: for each token whether text can become it; the others are only found as added
  /// tokens.
  WordPiece(const Vocabulary& vocabulary, const std::vector<bool>& is_piece,
            const Options& options);

  void encode(const Words& words, std::vector<Token>& tokens) const override;

  const Options& options() const { return options_; }

 private:
  void encode_word(std::string_view word, std::vector<Token>& tokens) const;

  Options options_;
  PrefixTrie begins_;
  PrefixTrie continues_;
};

}  // namespace fewbits
