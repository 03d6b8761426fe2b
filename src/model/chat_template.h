#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"

namespace fewbits {

/// A chat template: the subset of Jinja2 that models' templates use. Rendering is bounded in steps and output size.
class ChatTemplate {
 public:
  /// Throws Error with line and construct where the text is outside the subset or malformed.
  explicit ChatTemplate(std::string_view source);
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// `context` holds messages ([{role, content}]), add_generation_prompt, bos_token, eos_token, tools, ...
  /// Throws Error where the template calls raise_exception or meets an undefined operation.
  std::string render(const Json& context) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fewbits
