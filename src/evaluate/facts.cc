#include <cmath>

#include "evaluate/evaluate.h"

namespace fewbits {
namespace {

void put(Json& facts, const std::string& name, const Estimate& estimate,
         std::string_view bounds_of = {}) {
  const std::string bounds = bounds_of.empty() ? name : std::string(bounds_of);
  facts[name] = estimate.value;
  // JSON has no NaN: nlohmann writes null.
  facts[bounds + "_low"] = estimate.low;
  facts[bounds + "_high"] = estimate.high;
}

void put_where_known(Json& facts, const std::string& name, const Estimate& estimate) {
  if (!std::isnan(estimate.value)) put(facts, name, estimate);
}

}  // namespace

Json facts_of(const PerplexityResult& result) {
  Json facts;
  facts["protocol"] = protocol_name(result.protocol);
  facts["context"] = result.plan.context;
  facts["windows"] = result.plan.windows;
  facts["tokens"] = result.tokens;
  put(facts, "perplexity", result.perplexity);
  if (!result.comparison) return facts;

  const Comparison& comparison = *result.comparison;
  put(facts, "reference_perplexity", comparison.reference_perplexity);
  put(facts, "perplexity_difference", comparison.perplexity_difference);
  put(facts, "perplexity_ratio", comparison.perplexity_ratio);
  put(facts, "kl_mean", comparison.kl_mean, "kl");
  facts["kl_median"] = comparison.kl_median;
  facts["kl_p90"] = comparison.kl_p90;
  facts["kl_p99"] = comparison.kl_p99;
  facts["kl_p999"] = comparison.kl_p999;
  facts["kl_max"] = comparison.kl_max;
  put(facts, "top1_agreement", comparison.top1_agreement);
  facts["probability_rms"] = comparison.probability_rms;
  return facts;
}

Json facts_of(const TaskResult& result) {
  Json facts;
  facts["task"] = result.task;
  facts["items"] = result.items;
  put(facts, "accuracy", result.accuracy);
  put_where_known(facts, "accuracy_norm", result.accuracy_norm);
  put_where_known(facts, "perplexity", result.perplexity);
  if (!result.comparison) return facts;

  const TaskComparison& comparison = *result.comparison;
  put(facts, "reference_accuracy", comparison.reference_accuracy);
  put(facts, "accuracy_difference", comparison.accuracy_difference);
  put_where_known(facts, "reference_accuracy_norm", comparison.reference_accuracy_norm);
  put_where_known(facts, "accuracy_norm_difference", comparison.accuracy_norm_difference);
  put_where_known(facts, "reference_perplexity", comparison.reference_perplexity);
  put_where_known(facts, "perplexity_ratio", comparison.perplexity_ratio);
  put_where_known(facts, "same_answers", comparison.same_answers);
  return facts;
}

}  // namespace fewbits
