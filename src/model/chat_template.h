#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"

namespace fewbits {

/// A chat template: turns a conversation into the prompt that a model was trained on.
///
/// The language is the part of Jinja2 that models' templates use, with the meaning that PyPI's
/// `jinja2` gives it as `transformers` sets it up: tags alone on a line leave no line, undefined
/// prints as nothing, and no value changes but namespace(). It has
///
/// - the tags set (also as a block), if, for (with filter, else, break, continue and `loop`),
///   macro, with, filter, print, raw, generation, and comments;
/// - Python's str, int of 64 bits, float, bool, none, list, tuple and dict with their operators,
///   slices and usual methods, printed as Python prints them;
/// - the filters, tests and functions listed in templates/{filters,value_tests,functions}.cc.
///
/// Anything else is an Error: call, extends, include, import, block, recursive loops, * and ** in
/// calls, % on strings, half a surrogate pair in a string. Two texts differ from jinja2's: letters
/// that grow in upper case (but for the German sharp s) stay as they are, and where jinja2 folds a
/// constant that Python would refuse, such as 1[2:], this refuses.
///
/// Templates come from strangers: nesting, steps and the bytes that a rendering makes are bounded.
class ChatTemplate {
 public:
  /// Throws Error with line and construct where the text is outside the subset or malformed.
  explicit ChatTemplate(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// `context` holds messages ([{role, content}]), add_generation_prompt, bos_token, eos_token,
  /// tools, ... Throws Error where the template calls raise_exception or an operation has no
  /// meaning for its values. Thread-safe.
  std::string render(const Json& context) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fewbits
