#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/tokenizers/utf8.h"
#include "model/tokenizers/vocabulary.h"

namespace fewbits {

/// A token that is found in the text before anything else happens to it.
struct AddedToken {
  std::string text;
  Token token = -1;
  bool special = false;      ///< can be asked to stay text; never comes out of decode
  bool left_strip = false;   ///< takes the white space before it along
  bool right_strip = false;  ///< takes the white space behind it along
  bool single_word = false;  ///< only where no letter or digit is beside it
};

/// A stretch of text: an added token, or (token < 0) what lies between two.
struct TextSegment {
  ByteRange range;
  Token token = -1;
};

/// Finds added tokens: from left to right, at each place the longest. Immutable once built.
class AddedTokens {
 public:
  /// Throws Error, beginning with `where`, for a token of more than 1024 bytes: the search takes up
  /// to that many steps at a place.
  void add(AddedToken token, std::string_view where);
  bool empty() const { return tokens_.empty(); }
  const std::vector<AddedToken>& tokens() const { return tokens_; }

  /// Cuts the whole text into segments, none empty. Without `find_special`, special ones are text.
  std::vector<TextSegment> split(std::string_view text, bool find_special) const;

 private:
  struct Match {
    ByteRange range;
    const AddedToken* token;
  };
  std::optional<Match> find(std::string_view text, int64_t from) const;
  bool widen(std::string_view text, int64_t done, Match& match) const;

  std::vector<AddedToken> tokens_;
  // A trie: node 0 is the root; `ends_` is the index of the token that ends in a node, or -1.
  std::unordered_map<uint64_t, int32_t> children_;  // node * 256 + byte
  std::vector<int32_t> ends_ = {-1};
  std::array<bool, 256> begins_{};  // whether a token begins with this byte: most bytes stop here
};

}  // namespace fewbits
