#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fewbits {

/// SentencePiece's compiled normalization rules ("nmt_nfkc" and its like), which are part of its
/// models. Little-endian:
///
///   u32            bytes of the trie
///   u32[]          the trie: a double array, as darts-clone lays it out
///   text           what characters become, each ended by a NUL; the trie's values are offsets here
///
/// A unit of the double array: bit 31 marks a leaf, whose lower 31 bits are the value; else bits
/// 0..7 are the label, bit 8 says that the node has a leaf, bits 10..30 are the offset to its
/// children, counted in 256s where bit 9 is set.
class Charsmap {
 public:
  /// Throws Error, beginning with `where`, where the sizes contradict each other. Empty bytes are a
  /// map that changes nothing.
  static Charsmap from_bytes(std::string bytes, std::string_view where);

  /// How the rules are applied. SentencePiece itself takes the longest rule at each place. PyPI's
  /// `tokenizers` looks at one grapheme after the other instead: a short one (below 6 bytes)
  /// becomes what the shortest rule it begins with says, all of it; else its characters are
  /// replaced alone. Models were trained with the former, tokenizer.json stands for the latter.
  enum class Way { kLongest, kGraphemes };
  std::string apply(std::string_view text, Way way) const;

  const std::string& bytes() const { return bytes_; }

 private:
  struct Match {
    size_t bytes = 0;  ///< of the text; 0: no rule fits
    std::string_view by;
  };
  uint32_t unit(size_t index) const;
  Match find(std::string_view text, bool longest) const;
  void apply_to_grapheme(std::string_view grapheme, std::string& out) const;

  std::string bytes_;
  size_t units_ = 0;
};

}  // namespace fewbits
