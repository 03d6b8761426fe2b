#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace fewbits {

using TextCallback = std::function<void(std::string_view text)>;

/// Turns the bytes of tokens into text that can be shown at once: only whole UTF-8 characters
/// (bytes that are none become U+FFFD), and nothing that may yet turn out to be the beginning of a
/// stop string.
class TextStream {
 public:
  TextStream(std::vector<std::string> stop_strings, TextCallback on_text);

  /// Returns false where a stop string came up: the text ends before it, and nothing may be added.
  bool add(std::string_view bytes);

  /// Gives out what was held back.
  void finish();

  const std::string& text() const { return text_; }

 private:
  size_t find_stop() const;
  size_t held_for_stop() const;
  void give_out(size_t size);
  void show(const std::string& shown);

  std::vector<std::string> stop_strings_;
  TextCallback on_text_;
  std::string pending_;  ///< bytes not given out
  std::string text_;     ///< everything given out
};

}  // namespace fewbits
