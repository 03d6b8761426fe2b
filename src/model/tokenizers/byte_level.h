#pragma once

#include <optional>
#include <string>
#include <string_view>

// GPT-2's alphabet: the vocabulary spells each byte as one printable character, so that a token of
// any bytes is readable text. Printable Latin-1 stands for itself; the other 68 bytes, in order,
// are U+0100 and up (a space is U+0120 "Ġ", a newline U+010A "Ċ").
namespace fewbits {

/// The character that spells a byte, as UTF-8.
std::string_view spelling_of_byte(unsigned char byte);

/// The bytes that `text` spells; nothing where one of its characters is outside the alphabet.
std::optional<std::string> bytes_from_spelling(std::string_view text);

}  // namespace fewbits
