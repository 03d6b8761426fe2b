#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace fewbits {

using Token = int32_t;

/// What a token is for. The numbers are GGUF's (tokenizer.ggml.token_type).
enum class TokenKind : int8_t {
  kNormal = 1,
  kUnknown = 2,      ///< stands for text the vocabulary cannot spell
  kControl = 3,      ///< never text: "<s>", "<|im_end|>"
  kUserDefined = 4,  ///< text that is always one token, found before everything else
  kUnused = 5,
  kByte = 6,  ///< "<0x0A>": one byte of a character the vocabulary lacks
};

struct VocabularyEntry {
  std::string text;  ///< as stored; what it spells is the decoder's business
  float score = 0;   ///< SentencePiece: the higher, the earlier merged
  TokenKind kind = TokenKind::kNormal;
};

/// The list of tokens, by id and by text. Immutable; movable.
class Vocabulary {
 public:
  Vocabulary() = default;
  /// Entries with an empty text exist by id alone. Throws Error, beginning with `where`, where two
  /// entries have the same text.
  Vocabulary(std::vector<VocabularyEntry> entries, std::string_view where);
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  bool has(Token token) const { return token >= 0 && token < size(); }
  /// REQUIRES: has(token).
  const VocabularyEntry& operator[](Token token) const {
    return entries_[static_cast<size_t>(token)];
  }
  const std::vector<VocabularyEntry>& entries() const { return entries_; }
  std::optional<Token> find(std::string_view text) const;

 private:
  std::vector<VocabularyEntry> entries_;
  std::unordered_map<std::string_view, Token> by_text_;  // views into entries_
};

/// The byte that "<0x0A>" stands for; nothing where `text` has another form.
std::optional<unsigned char> byte_of_token(std::string_view text);

/// "<0x0A>"
std::string token_of_byte(unsigned char byte);

}  // namespace fewbits
