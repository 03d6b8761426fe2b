// Any bytes as a chat template, rendered on a small conversation.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "model/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fewbits::Json context = fewbits::parse_json(R"({
    "messages": [
      {"role": "system", "content": "S\n"},
      {"role": "user", "content": [{"type": "text", "text": "Ünï "}]},
      {"role": "assistant", "content": null,
       "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, 2.5, true]}}}]}],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": {}}}}],
    "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"})",
                                                           "fuzz");
  try {
    const std::string_view source(reinterpret_cast<const char*>(data), size);
    fewbits::ChatTemplate(source).render(context);
  } catch (const fewbits::Error&) {
  }
  return 0;
}
