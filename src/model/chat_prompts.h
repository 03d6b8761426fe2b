#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "model/chat_template.h"
#include "model/model.h"

namespace fewbits {

/// Conversations as a model was trained to read them. The model must outlive this object.
class ChatPrompts {
 public:
  enum class End {
    kBegunAnswer,  ///< the model's turn is opened, and it goes on from there
    kLastMessage
  };

  /// Throws Error where the model has no chat template, or one that cannot be read.
  explicit ChatPrompts(const Model& model);

  /// `messages` is [{role, content}]. Throws Error where the template refuses them.
  std::vector<Token> tokens(const Json& messages, End end = End::kBegunAnswer) const;

 private:
  const Model& model_;
  ChatTemplate template_;
};

}  // namespace fewbits
