#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Python's string operations on UTF-8: positions count code points. A byte that is no UTF-8 counts
// as one character.
namespace fewbits::templates {

/// The character that begins at `position`, as bytes. REQUIRES: position < text.size().
std::string_view character_at(std::string_view text, size_t position);

/// Its code point; -1 for a byte that is no UTF-8.
int32_t code_point(std::string_view character);

std::string encode(int32_t code_point);
int64_t count_characters(std::string_view text);
/// Where character `index` begins; the size where there are fewer.
size_t position_of(std::string_view text, int64_t index);
std::vector<std::string_view> characters(std::string_view text);

template <class Visit>
void for_each_character(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::string_view character = character_at(text, 0);
    text.remove_prefix(character.size());
    visit(character);
  }
}

bool is_space(int32_t code_point);
bool is_printable(int32_t code_point);
bool is_all_space(std::string_view text);

/// Without the characters of `set` at its ends; white space where `set` is null.
std::string_view strip_left(std::string_view text, const std::string* set = nullptr);
std::string_view strip_right(std::string_view text, const std::string* set = nullptr);

/// As text.find(part, from), in linear time whatever the texts.
size_t find_text(std::string_view text, std::string_view part, size_t from = 0);

// Character by character; the few letters that Python turns into several (all but German sharp s)
// stay.
std::string upper(std::string_view text);
std::string lower(std::string_view text);
std::string capitalize(std::string_view text);
/// Words begin after anything that is no letter, as str.title() has it.
std::string title(std::string_view text);
/// Words begin after white space and - ( { [ <, as the filter `title` has it.
std::string title_words(std::string_view text);

/// Whether there is a letter with case and all such letters are lower (upper).
bool is_lower(std::string_view text);
bool is_upper(std::string_view text);

/// Lines without their ends; knows all of Python's line ends.
std::vector<std::string_view> split_lines(std::string_view text);

/// & < > " ' as HTML entities.
std::string escape_html(std::string_view text);

}  // namespace fewbits::templates
