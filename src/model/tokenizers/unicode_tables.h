#pragma once

#include <cstdint>
#include <string>

// Properties of characters as PyPI's `tokenizers` has them. Its categories and normal forms are
// those of older Unicodes, its case is that of a newer one; utf8proc lies between. The differences
// are listed, found by comparing every code point; they matter only to characters that hardly any
// text has. All are false for -1.
namespace fewbits {

/// Category P.
bool is_punctuation(int32_t code);
/// Category Mn: what BERT calls an accent.
bool is_nonspacing_mark(int32_t code);
/// Category M: what the normalizer StripAccents calls an accent.
bool is_mark(int32_t code);
/// Categories Cc, Cf and Co; not unassigned characters.
bool is_control(int32_t code);
/// Whether normal forms leave the character alone although utf8proc would not; `compatible`: NFKC
/// and NFKD.
bool is_decomposed_later(int32_t code, bool compatible);

/// An expression for what is_punctuation() says.
std::string punctuation_expression();

/// The lower case of one character, mostly one character too.
void append_lowercase(std::string& text, int32_t code);

}  // namespace fewbits
