#include "cli/statistics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>

#include "base/error.h"
#include "base/interrupt.h"
#include "calibrate/model_identity.h"
#include "cli/console.h"

namespace fewbits::cli {
namespace {

/// Files of llama-imatrix do not say which model they are of; that mostly shows in the names.
void refuse_foreign(const Importance& importance, const std::string& path, const Model& model) {
  if (!importance.model.empty() && importance.model != model_identity(model)) {
    throw Error(
        fmt::format("{}: gathered in another model; gather it anew with fewbits calibrate", path));
  }
  const auto known = [&](const Weight& weight) {
    return importance.entries.contains(weight.gguf_name);
  };
  if (std::any_of(model.weights.begin(), model.weights.end(), known)) return;
  throw Error(fmt::format("{}: none of its {} matrices is in this model (the first is '{}')", path,
                          importance.entries.size(), importance.entries.begin()->first));
}

/// Codes of two bits and less, searched without weights, make a model that says nothing.
void refuse_gaps(const Importance& importance, const std::string& path, const QuantizePlan& plan) {
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    const bool needed = planned.format->needs_importance && weight.layer >= 0;
    if (!needed || importance.entries.contains(weight.gguf_name)) continue;
    throw Error(
        fmt::format("{}: has nothing for '{}', and {} cannot do without; give another type "
                    "for it (--tensor '{}=IQ3_S') or gather statistics of more text",
                    path, weight.gguf_name, planned.format->name, weight.gguf_name));
  }
}

FormatErrors format_errors(const Model& model, const std::vector<std::vector<Token>>& samples,
                           ThreadPool& pool) {
  Progress progress("measuring formats");
  return measure_format_errors(
      model, samples, [&](int64_t done, int64_t total) { progress.update(done, total); }, pool);
}

FormatErrors format_errors(const SensitivityReport& report) {
  FormatErrors errors;
  for (const Sensitivity& matrix : report.matrices) {
    for (const FormatCost& cost : matrix.costs) {
      errors[matrix.weight].push_back({cost.format, cost.output_error, cost.fitted_error});
    }
  }
  return errors;
}

std::vector<Sensitivity> measure(const Model& model, const std::vector<std::vector<Token>>& samples,
                                 const FormatErrors& errors,
                                 std::map<const Weight*, const Format*> rounded, std::string title,
                                 ThreadPool& pool) {
  Progress progress(std::move(title));
  const Importance importance = gather_importance(model, samples, pool);
  SensitivityOptions options{
      .importance = &importance, .errors = &errors, .rounded = std::move(rounded)};
  options.progress = [&](int64_t done, int64_t total) { progress.update(done, total); };
  return measure_sensitivity(model, samples, options, pool);
}

}  // namespace

Importance importance_for(const std::string& path, const Model& model, const QuantizePlan& plan) {
  Importance importance = read_importance(path);
  refuse_foreign(importance, path, model);
  refuse_gaps(importance, path, plan);
  return importance;
}

SensitivityReport sensitivity_for(const std::string& path, const Model& model) {
  return sensitivity_report(read_json_file(path), model, path);
}

SensitivityReport measure_sensitivities(const Model& model,
                                        const std::vector<std::filesystem::path>& texts,
                                        const SampleOptions& wanted, ThreadPool& pool) {
  // Fewer tokens than a matrix has columns would make any format fit them.
  constexpr int64_t kFittingSamples = 24;
  SampleOptions fitting = wanted;
  fitting.count = std::max(wanted.count, kFittingSamples);
  const FormatErrors errors = format_errors(model, take_samples(model, texts, fitting), pool);
  const auto samples = take_samples(model, texts, wanted);
  SensitivityReport report{.model = model_identity(model),
                           .texts = hash_files(texts, [](int64_t) {}),
                           .samples = std::ssize(samples),
                           .sample_length = wanted.length};
  report.matrices = measure(model, samples, errors, {}, "measuring sensitivity", pool);
  return report;
}

/// A matrix that seems to cost nothing, or less, was lost in the noise of few samples.
void measure_again(SensitivityReport& report, const Model& model, const QuantizePlan& plan,
                   const std::vector<std::filesystem::path>& texts, uint64_t seed,
                   ThreadPool& pool) {
  constexpr double kLeastShare = 0.25;  // of what it cost alone
  const auto samples = take_samples(
      model, texts, {.count = report.samples, .length = report.sample_length, .seed = seed});
  std::map<const Weight*, const Format*> rounded;
  for (const Sensitivity& matrix : report.matrices) rounded[matrix.weight] = nullptr;
  for (const PlannedWeight& planned : plan.weights) {
    const auto found = rounded.find(planned.weight);
    if (found != rounded.end()) found->second = planned.format;
  }
  std::erase_if(rounded, [](const auto& entry) { return !entry.second->has_levels(); });
  const auto again =
      measure(model, samples, format_errors(report), std::move(rounded), "measuring again", pool);
  for (size_t i = 0; i < again.size(); ++i) {
    Sensitivity& matrix = report.matrices[i];
    matrix.divergence =
        std::max(again[i].divergence_at(matrix.output_error), kLeastShare * matrix.divergence);
  }
}

std::string sensitivity_table(const SensitivityReport& report) {
  constexpr std::string_view kShown[] = {"Q2_K", "Q3_K", "Q4_K", "IQ4_NL", "Q5_0", "Q6_K", "Q8_0"};
  std::string text = fmt::format("{:<28} {:>10}", "KL divergence, each alone, in", "error");
  for (const std::string_view name : kShown) text += fmt::format(" {:>9}", name);
  text += '\n';
  for (const Sensitivity& matrix : report.matrices) {
    text += fmt::format("{:<28} {:>10.2e}", matrix.weight->gguf_name, matrix.output_error);
    for (const std::string_view name : kShown) {
      const auto cost = std::ranges::find_if(
          matrix.costs, [&](const FormatCost& c) { return c.format->name == name; });
      text += cost == matrix.costs.end()
                  ? fmt::format(" {:>9}", "-")
                  : fmt::format(" {:>9.2e}", matrix.divergence_at(cost->fitted_error));
    }
    text += '\n';
  }
  return text + "error: share of the outputs' mean square that is lost in " +
         (report.matrices.empty() ? "" : std::string(report.matrices.front().format->name)) +
         ", in which it was measured; formats are expected to cost by their errors behind GPTQ\n";
}

}  // namespace fewbits::cli
