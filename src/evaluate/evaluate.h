#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"
#include "evaluate/perplexity.h"
#include "evaluate/task.h"
#include "evaluate/task_scoring.h"

// Measuring opened models: what `fewbits eval` does.
//
//   const Model model = open_model("small.gguf"), reference = open_model("SmolLM2-135M");
//   ThreadPool pool;
//   const PerplexityResult cost = evaluate_text({.model = &model, .reference = &reference, .pool =
//   &pool}, text, {});
//
// The figures are of the weights and of the arithmetic that runs them. Integer kernels round
// activations too, and that is part of what is measured: with SmolLM2 at Q4_K_M 6 % of the
// divergence. `engine.pack.float_math` leaves the weights' share alone.
namespace fewbits {

/// Who is measured, and with what. The models and the pool are borrowed.
struct Evaluation {
  const Model* model = nullptr;
  const Model* reference = nullptr;  ///< null: none
  ThreadPool* pool = nullptr;
  EngineOptions engine = {};  ///< of both, but for what the model's layers are fed
  KvOptions kv = {};          ///< of the model; the reference's cache is f16
  Progress progress = {};

  EngineOptions engine_of(const Model& measured) const {
    EngineOptions options = engine;
    if (&measured == reference) options.activations = {};
    return options;
  }
};

/// Loads the models, reads `text` with both and compares. Throws Error where the text is too short
/// or binary, or the two models do not read it as the same tokens. BOS is the model's own choice:
/// `options.bos` is not used.
PerplexityResult evaluate_text(const Evaluation& evaluation, std::string_view text,
                               PerplexityOptions options);

/// Asks the model, then the reference; only one of them is loaded at a time. Progress counts the
/// items of both.
TaskResult evaluate_task(const Evaluation& evaluation, const Task& task);

/// The text as the model reads it: BOS once, at the start, where the model adds one. Never EOS.
std::vector<Token> text_tokens(const Tokenizer& tokenizer, std::string_view text);

// A result as flat JSON keys, which stay: NAME, NAME_low and NAME_high of each estimate (null where
// the sample gives no interval). Perplexity: protocol context windows tokens perplexity, and with a
// reference reference_perplexity perplexity_difference perplexity_ratio kl_mean kl_low kl_high
// kl_median kl_p90 kl_p99 kl_p999 kl_max top1_agreement probability_rms. Tasks: task items accuracy
// accuracy_norm (or perplexity), and with a reference reference_accuracy accuracy_difference and so
// on.
Json facts_of(const PerplexityResult& result);
Json facts_of(const TaskResult& result);

}  // namespace fewbits
