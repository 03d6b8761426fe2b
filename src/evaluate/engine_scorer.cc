#include "evaluate/engine_scorer.h"

#include <fmt/format.h>

#include "base/error.h"

namespace fewbits {
namespace {

int64_t checked_capacity(const Model& model, int64_t capacity) {
  if (!model.config.design.causal) {
    throw Error(
        fmt::format("{}: is an encoder, which predicts no text; give --task a file of "
                    "sentence pairs (csv)",
                    model.path.string()));
  }
  if (capacity <= model.config.context) return capacity;
  throw Error(
      fmt::format("{}: windows of {} tokens are longer than the {} that the model was trained for; "
                  "give a smaller "
                  "context",
                  model.path.string(), capacity, model.config.context));
}

}  // namespace

EngineScorer::EngineScorer(const Model& model, ThreadPool& pool, int64_t capacity,
                           EngineOptions options, const KvOptions& kv)
    : engine_(model, pool, options), cache_(model.config, checked_capacity(model, capacity), kv) {}

int64_t EngineScorer::vocabulary() const {
  return engine_.config().vocabulary;
}

void EngineScorer::append(std::span<const Token> tokens, int64_t rows) {
  hidden_ = engine_.forward(tokens, cache_, rows);
}

void EngineScorer::logits(int64_t first, int64_t count, float* out) {
  const int64_t width = engine_.config().hidden;
  const auto rows =
      hidden_.subspan(static_cast<size_t>(first * width), static_cast<size_t>(count * width));
  engine_.logits(rows, count, out);
}

}  // namespace fewbits
