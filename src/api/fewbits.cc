#include "fewbits/fewbits.h"

#include "base/version.h"
#include "engine/generate.h"
#include "evaluate/evaluate.h"
#include "pipeline/quantize.h"

namespace fewbits {
namespace {

EvaluateReport report_of(const PerplexityResult& result) {
  EvaluateReport report;
  report.perplexity = result.perplexity.value;
  report.perplexity_low = result.perplexity.low;
  report.perplexity_high = result.perplexity.high;
  report.tokens = result.tokens;
  if (result.comparison) {
    const Comparison& comparison = *result.comparison;
    report.divergence = {.kl_mean = comparison.kl_mean.value,
                         .kl_low = comparison.kl_mean.low,
                         .kl_high = comparison.kl_mean.high,
                         .kl_p99 = comparison.kl_p99,
                         .kl_p999 = comparison.kl_p999,
                         .kl_max = comparison.kl_max,
                         .top1_agreement = comparison.top1_agreement.value};
  }
  return report;
}

/// What was asked for, as the file's certificate keeps it.
Json recipe_of(const QuantizeRequest& request) {
  Json recipe = {{"to", request.to}, {"search", "best"}};
  if (!request.output_format.empty()) recipe["output"] = request.output_format;
  if (!request.embedding_format.empty()) recipe["embedding"] = request.embedding_format;
  for (const auto& [glob, format] : request.tensor_formats) {
    recipe["tensor"].push_back(glob + "=" + format);
  }
  return recipe;
}

}  // namespace

QuantizeReport quantize(const QuantizeRequest& request) {
  check_output(request.model, request.out);
  const Model model = open_model(request.model);
  QuantizePlan plan = plan_quantize(model, {.to = request.to,
                                            .tensor_formats = request.tensor_formats,
                                            .output_format = request.output_format,
                                            .embedding_format = request.embedding_format});
  add_certificate(plan, hash_files(checkpoint_files(request.model), [](int64_t) {}),
                  recipe_of(request), false);
  ThreadPool pool(request.threads);
  QuantizeRun run;
  if (request.progress) {
    run.progress = [&](int64_t done, int64_t total, const std::string&) {
      request.progress(done, total);
    };
  }
  const QuantizeResult result = run_quantize(model, plan, run, request.out, pool);
  QuantizeReport report{.bytes_in = result.bytes_in,
                        .bytes_out = result.bytes_out,
                        .bits_per_weight = result.bits_per_weight,
                        .relative_error = result.relative_error,
                        .warnings = model.warnings};
  report.warnings.insert(report.warnings.end(), plan.warnings.begin(), plan.warnings.end());
  return report;
}

EvaluateReport evaluate(const EvaluateRequest& request) {
  const Model model = open_model(request.model);
  std::optional<Model> reference;
  if (request.against) reference.emplace(open_model(*request.against));
  ThreadPool pool(request.threads);
  const Evaluation evaluation{.model = &model,
                              .reference = reference ? &*reference : nullptr,
                              .pool = &pool,
                              .progress = request.progress};
  return report_of(evaluate_text(evaluation, request.text, {.windows = request.chunks}));
}

struct Generator::Impl {
  static constexpr int64_t kMostContext = 8192;

  Impl(const std::filesystem::path& path, int threads)
      : model(open_model(path)),
        pool(threads),
        engine(model, pool),
        cache(model.config, std::min(model.config.context, kMostContext)) {}

  Model model;
  ThreadPool pool;
  Engine engine;
  KvCache cache;
};

Generator::Generator(const std::filesystem::path& model, int threads)
    : impl_(std::make_unique<Impl>(model, threads)) {}
Generator::~Generator() = default;
Generator::Generator(Generator&&) noexcept = default;
Generator& Generator::operator=(Generator&&) noexcept = default;

Generation Generator::generate(std::string_view prompt, const TextOptions& options) {
  GenerateOptions wanted;
  wanted.max_tokens = options.max_tokens;
  wanted.sampler.temperature = options.temperature;
  wanted.sampler.seed = options.seed;
  wanted.stop_strings = options.stop;
  wanted.on_text = options.on_text;
  const GenerateResult result = fewbits::generate(
      impl_->engine, impl_->cache, impl_->model.tokenizer.encode_with_bos(prompt), wanted);
  return {.text = result.text,
          .prompt_tokens = result.prompt_tokens,
          .generated_tokens = static_cast<int64_t>(result.tokens.size())};
}

std::string_view version() {
  return program_version();
}

}  // namespace fewbits
