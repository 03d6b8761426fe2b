#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text_view.h"
#include "cli/activation_arguments.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/kv_arguments.h"
#include "cli/sample_arguments.h"
#include "evaluate/evaluate.h"
#include "evaluate/sentence_pairs.h"
#include "pipeline/certificate.h"

namespace fewbits::cli {
namespace {

struct EvalArguments {
  std::string model, against, text;
  std::vector<std::string> tasks;
  std::string protocol = "llama";
  int64_t limit = 0;
  int threads = 0;
  bool json = false;
  bool float_math = false;
  ActivationArguments activations;
  KvArguments kv;
  std::optional<double> most_divergence;
  PerplexityOptions options;
};

/// "26.68 (26.10 to 27.27)"; without bounds where the sample gives none.
std::string text_of(const Estimate& estimate, int digits, double factor = 1) {
  const std::string value = fmt::format("{:.{}f}", factor * estimate.value, digits);
  if (std::isnan(estimate.low)) return value;
  return fmt::format("{} ({:.{}f} to {:.{}f})", value, factor * estimate.low, digits,
                     factor * estimate.high, digits);
}

void print_fact(std::string_view name, const std::string& value) {
  print(fmt::format("  {:<24} {}\n", name, value));
}

void print_text_result(const PerplexityResult& result) {
  print(fmt::format(
      "{} protocol, {} windows of {} tokens, {} tokens scored; 95 % intervals from window means\n",
      protocol_name(result.protocol), result.plan.windows, result.plan.context, result.tokens));
  print_fact("perplexity", text_of(result.perplexity, 4));
  if (!result.comparison) return;
  const Comparison& comparison = *result.comparison;
  print_fact("of the reference", text_of(comparison.reference_perplexity, 4));
  print_fact("perplexity ratio", text_of(comparison.perplexity_ratio, 5));
  print_fact("KL divergence, mean", text_of(comparison.kl_mean, 6));
  print_fact("  99 %, 99.9 %, max", fmt::format("{:.4f}, {:.4f}, {:.4f}", comparison.kl_p99,
                                                comparison.kl_p999, comparison.kl_max));
  print_fact("same first token, %", text_of(comparison.top1_agreement, 2, 100));
}

void print_task_result(const TaskResult& result) {
  print(fmt::format("{}, {} items\n", result.task, result.items));
  print_fact("accuracy, %", text_of(result.accuracy, 2, 100));
  if (!std::isnan(result.accuracy_norm.value))
    print_fact("acc_norm, %", text_of(result.accuracy_norm, 2, 100));
  if (!std::isnan(result.perplexity.value)) print_fact("perplexity", text_of(result.perplexity, 3));
  if (!result.comparison) return;
  print_fact("of the reference, %", text_of(result.comparison->reference_accuracy, 2, 100));
  print_fact("difference, points", text_of(result.comparison->accuracy_difference, 2, 100));
}

void print_pairs_result(const PairsResult& result) {
  print(fmt::format("{}, {} sentence pairs\n", result.task, result.items));
  print_fact("Spearman", text_of(result.spearman, 4));
  if (!result.comparison) return;
  const PairsComparison& comparison = *result.comparison;
  print_fact("of the reference", text_of(comparison.reference_spearman, 4));
  print_fact("difference", text_of(comparison.difference, 4));
  print_fact("same vectors, cosine", fmt::format("{:.6f} mean, {:.6f} least",
                                                 comparison.cosine_mean, comparison.cosine_min));
}

/// The models of one call, and the work on them.
class Evaluator {
 public:
  explicit Evaluator(const EvalArguments& arguments)
      : arguments_(arguments), model_(open_model(arguments.model)), pool_(arguments.threads) {
    warn_all(model_.warnings);
    if (const auto certificate = certificate_of(model_); certificate && !arguments.text.empty()) {
      warn_of_overlap(*certificate, "--text", arguments.text);
    }
    if (!arguments.against.empty()) reference_.emplace(open_model(arguments.against));
  }

  PerplexityResult text() {
    const MappedFile file = MappedFile::open(arguments_.text);
    Progress progress("eval");
    return evaluate_text(evaluation(progress), text_view(file.bytes()), arguments_.options);
  }

  PairsResult pairs(const std::string& path) {
    Progress progress(path);
    return evaluate_pairs(evaluation(progress), read_sentence_pairs(path, arguments_.limit));
  }

  TaskResult task(const std::string& path) {
    Progress progress(path);
    return evaluate_task(evaluation(progress), read_task(path, arguments_.limit));
  }

 private:
  Evaluation evaluation(Progress& progress) {
    return {.model = &model_,
            .reference = reference_ ? &*reference_ : nullptr,
            .pool = &pool_,
            .engine = {.pack = {.float_math = arguments_.float_math},
                       .activations = arguments_.activations.options(arguments_.kv)},
            .kv = arguments_.kv.options(),
            .progress = [&](int64_t done, int64_t total) { progress.update(done, total); }};
  }

  const EvalArguments& arguments_;
  Model model_;
  std::optional<Model> reference_;
  ThreadPool pool_;
};

/// So that scripts can stop at a model that lost too much.
void refuse_loss(const EvalArguments& arguments, double divergence) {
  if (!arguments.most_divergence || divergence <= *arguments.most_divergence) return;
  throw Error(fmt::format("eval: the KL divergence is {:.4f}, more than --max-kl {}", divergence,
                          *arguments.most_divergence));
}

void eval(EvalArguments& arguments) {
  if (arguments.text.empty() && arguments.tasks.empty()) {
    throw Error("eval: give --text FILE or --task FILE");
  }
  if (arguments.most_divergence && (arguments.text.empty() || arguments.against.empty())) {
    throw Error("eval: --max-kl needs --text and --against");
  }
  arguments.options.protocol = protocol_named(arguments.protocol);
  Evaluator evaluator(arguments);
  Json json = Json::object();
  double divergence = 0;
  if (!arguments.text.empty()) {
    const PerplexityResult result = evaluator.text();
    if (result.comparison) divergence = result.comparison->kl_mean.value;
    if (arguments.json) {
      json = facts_of(result);
      // For paired intervals of two files; too many for a certificate.
      if (result.comparison) json["kl_windows"] = result.comparison->kl_windows;
    } else {
      print_text_result(result);
    }
  }
  const auto report = [&](const auto& result, auto print_result) {
    if (arguments.json) {
      json["tasks"].push_back(facts_of(result));
    } else {
      print_result(result);
    }
  };
  for (const std::string& path : arguments.tasks) {
    if (is_sentence_pairs(path)) {
      report(evaluator.pairs(path), print_pairs_result);
    } else {
      report(evaluator.task(path), print_task_result);
    }
  }
  if (arguments.json) print_json(json);
  refuse_loss(arguments, divergence);
}

}  // namespace

void add_eval(CLI::App& app) {
  const auto arguments = std::make_shared<EvalArguments>();
  CLI::App* verb =
      app.add_subcommand("eval", "Measure a model's quality, alone or against another form of it");
  verb->add_option("model", arguments->model, "Hugging Face folder or .gguf file")->required();
  verb->add_option("--against", arguments->against,
                   "The reference: adds KL divergence and paired differences");
  verb->add_option("--text", arguments->text, "Text to score");
  verb->add_option("--task", arguments->tasks,
                   "Task files: multiple choice or LAMBADA (jsonl), HellaSwag (text), "
                   "sentence pairs with scores (csv)");
  verb->add_option("--protocol", arguments->protocol, "llama (windows of 512) or paper (2048)")
      ->capture_default_str();
  verb->add_option("--context", arguments->options.context,
                   "Tokens in a window; 0: the protocol's own")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 30));
  verb->add_option("--chunks", arguments->options.windows, "Windows to score at most; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  verb->add_flag("--every-position", arguments->options.every_position,
                 "Score the first half of a window too");
  verb->add_option("--limit", arguments->limit, "Items of a task at most; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  verb->add_option("--max-kl", arguments->most_divergence,
                   "Exit with 1 where the mean KL divergence is above this")
      ->check(CLI::NonNegativeNumber);
  verb->add_flag("--float-math", arguments->float_math,
                 "Compute in float: shows what integer kernels add");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  declare(arguments->activations, *verb);
  declare(arguments->kv, *verb);
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { eval(*arguments); });
}

}  // namespace fewbits::cli
