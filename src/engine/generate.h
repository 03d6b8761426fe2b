#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "engine/sampler.h"
#include "engine/text_stream.h"

namespace fewbits {

enum class StopReason {
  kEndOfText,  ///< the model ended its text or turn
  kStopString,
  kLength,       ///< max_tokens were generated
  kContextFull,  ///< no position left in the cache
  kInterrupted,  ///< Ctrl-C; the text so far is kept
};

/// "end of text", "stop string", ...
std::string_view stop_reason_text(StopReason reason);

struct GenerateOptions {
  SamplerOptions sampler = {};
  int64_t max_tokens = 256;
  std::vector<std::string> stop_strings = {};  ///< end the text and are not part of it
  TextCallback on_text = {};                   ///< gets the text piece by piece
};

struct GenerateResult {
  std::string text;           ///< without the prompt
  std::vector<Token> tokens;  ///< generated, an end-of-text token not among them
  StopReason stop = StopReason::kLength;
  int64_t prompt_tokens = 0;
  int64_t prefilled_tokens = 0;  ///< of the prompt, those that the cache did not hold
  double prefill_seconds = 0;
  int64_t decoded_tokens = 0;  ///< passes of one token
  double decode_seconds = 0;   ///< with sampling

  double prefill_tokens_per_second() const;
  double decode_tokens_per_second() const;
};

/// Continues `prompt`, which is the whole text so far, with BOS where the model wants it: the
/// beginning that `cache` already holds is not computed again, what it holds beyond that is
/// forgotten. When the context is full, generation stops and says so; dropping old text is the
/// caller's choice. Throws Error where the prompt is empty or leaves no room in the cache.
GenerateResult generate(Engine& engine, KvCache& cache, std::span<const Token> prompt,
                        const GenerateOptions& options);

}  // namespace fewbits
