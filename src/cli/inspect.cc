#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/text.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "model/model.h"
#include "pipeline/certificate.h"
#include "pipeline/tensor_statistics.h"

namespace fewbits::cli {
namespace {

constexpr size_t kLongestShownValue = 60;

struct InspectArguments {
  std::string model;
  std::string against;
  bool stats = false;
  bool metadata = false;
  bool json = false;
  bool verify = false;
  std::string source;
  int threads = 0;
};

std::string shape_text(const Shape& shape) {
  return fmt::format("{}", fmt::join(shape, " x "));
}

/// One metadata value, shortened for people.
std::string value_text(const MetadataValue& value) {
  struct Visitor {
    std::string operator()(int64_t number) const { return fmt::format("{}", number); }
    std::string operator()(double number) const { return fmt::format("{}", number); }
    std::string operator()(const std::string& text) const {
      const std::string line = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
      if (line.size() <= kLongestShownValue) return line;
      return fmt::format("{}... ({} bytes)", line.substr(0, kLongestShownValue), text.size());
    }
    std::string operator()(const MetadataArray& array) const {
      return std::visit([](const auto& v) { return fmt::format("[{} values]", v.size()); },
                        array.values);
    }
  };
  return std::visit(Visitor{}, value.value);
}

struct FormatTotal {
  int64_t tensors = 0, values = 0, bytes = 0;
};

std::map<std::string_view, FormatTotal> totals_by_format(const Model& model) {
  std::map<std::string_view, FormatTotal> totals;
  for (const Weight& weight : model.weights) {
    FormatTotal& total = totals[weight.format().name];
    ++total.tensors;
    total.values += weight.values();
    total.bytes += weight.stored_bytes();
  }
  return totals;
}

double bits_per_weight(const Model& model) {
  return 8.0 * static_cast<double>(model.store.file_bytes()) /
         static_cast<double>(model.parameters());
}

std::string input_text(const InputRule& rule) {
  if (rule.format == nullptr) return rule.unknown.empty() ? "floats" : "unknown: " + rule.unknown;
  return fmt::format("{}, {}", rule.format->name, rule.is_static ? "static scales" : "dynamic");
}

/// "120 scales, 0.0012 to 0.034"
std::string scales_text(const std::map<std::string, float>& scales) {
  const auto [least, most] = std::ranges::minmax_element(
      scales, [](const auto& a, const auto& b) { return a.second < b.second; });
  return fmt::format("{} scales, {:.4g} to {:.4g}", scales.size(), least->second, most->second);
}

/// What a folder says of what its layers are fed.
void print_activations(const ActivationScheme& scheme) {
  const InputRule& rule = scheme.inputs;
  if (rule.format != nullptr || !rule.unknown.empty())
    print(fmt::format("  inputs        {}\n", input_text(rule)));
  const std::pair<const char*, const std::map<std::string, float>&> kLists[] = {
      {"of inputs", scheme.input_scales},
      {"of keys", scheme.key_scales},
      {"of values", scheme.value_scales}};
  for (const auto& [name, scales] : kLists) {
    if (!scales.empty()) print(fmt::format("  {:<12}  {}\n", name, scales_text(scales)));
  }
}

Json to_json(const ActivationScheme& scheme) {
  return {{"inputs", input_text(scheme.inputs)},
          {"input_scales", scheme.input_scales},
          {"key_scales", scheme.key_scales},
          {"value_scales", scheme.value_scales}};
}

void print_summary(const Model& model) {
  const ModelConfig& config = model.config;
  print(
      fmt::format("{}\n  architecture  {}\n  parameters    {:.1f} M\n  size          {} ({:.2f} "
                  "bits per weight)\n",
                  model.path.string(), model.architecture->gguf_name,
                  static_cast<double>(model.parameters()) / 1e6,
                  human_bytes(model.store.file_bytes()), bits_per_weight(model)));
  print(fmt::format(
      "  shape         {} layers, {} wide, {} query and {} key/value heads of {}, feed-forward {}\n"
      "  vocabulary    {} tokens{}\n  context       {} tokens\n",
      config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim, config.ffn,
      config.vocabulary, config.tied_embeddings ? ", output tied to the embedding" : "",
      config.context));
  for (const auto& [name, total] : totals_by_format(model)) {
    print(fmt::format("  {:<12}  {} tensors, {:.1f} M values, {}\n", name, total.tensors,
                      static_cast<double>(total.values) / 1e6, human_bytes(total.bytes)));
  }
  print_activations(model.activations);
}

/// One value of a certificate for people.
std::string fact_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// The certificate for people: its tensors' errors stand in --json.
void print_certificate(const Json& certificate) {
  print("\ncertificate\n");
  for (const auto& [key, value] : certificate.items()) {
    if (key == "tensors" || key == "schema") continue;
    if (key == "measured") {
      print(fmt::format(
          "  {:<16} KL divergence {:.4f} ({:.4f} to {:.4f}), perplexity {:.4f}, of the "
          "source {:.4f}\n",
          key, value.value("kl_mean", 0.0), value.value("kl_low", 0.0), value.value("kl_high", 0.0),
          value.value("perplexity", 0.0), value.value("reference_perplexity", 0.0)));
      continue;
    }
    if (key != "source" && key != "files") {
      print(fmt::format("  {:<16} {}\n", key, fact_text(value)));
      continue;
    }
    for (const Json& file : value) {
      print(fmt::format("  {:<16} {} ({} bytes) {}\n", key, file.value("name", ""),
                        file.value("bytes", int64_t{0}), file.value("sha256", "")));
    }
  }
}

/// Throws Error with the first thing that is not as the certificate says.
void verify(const InspectArguments& arguments, const Model& model,
            const std::optional<Json>& certificate) {
  if (!certificate) {
    throw Error(fmt::format("{}: carries no certificate to verify", arguments.model));
  }
  Progress progress("verify");
  int64_t done = 0;
  const auto on_bytes = [&](int64_t more) {
    throw_if_interrupted();
    progress.update(done += more, model.store.file_bytes(), "");
  };
  std::optional<std::vector<FileHash>> source;
  if (!arguments.source.empty()) {
    source = hash_files(checkpoint_files(arguments.source), on_bytes);
  }
  const auto problems =
      verify_certificate(*certificate, model, source ? &*source : nullptr, on_bytes);
  progress.finish();
  if (!problems.empty()) {
    throw Error(fmt::format("{}: {}", arguments.model, join(problems)));
  }
}

void print_metadata(const Model& model) {
  print("\n");
  for (const Metadata::Entry& entry : model.metadata.entries()) {
    print(fmt::format("{:<44} {}\n", entry.key, value_text(entry.value)));
  }
}

/// Statistics of one weight, or nothing where they were not asked for.
class Statistician {
 public:
  explicit Statistician(const InspectArguments& arguments)
      : wanted_(arguments.stats || !arguments.against.empty()), pool_(arguments.threads) {
    if (!arguments.against.empty()) against_.emplace(open_model(arguments.against));
  }

  bool wanted() const { return wanted_; }
  bool compares() const { return against_.has_value(); }

  std::optional<TensorStatistics> operator()(const Weight& weight) {
    if (!wanted_) return std::nullopt;
    const Weight* other = against_ ? against_->find(weight.role, weight.layer) : nullptr;
    return tensor_statistics(weight, other, pool_);
  }

 private:
  bool wanted_;
  ThreadPool pool_;
  std::optional<Model> against_;
};

void print_tensors(const Model& model, Statistician& statistics) {
  print(fmt::format("\n{:<32} {:<14} {:<7} {:>9}", "tensor", "shape", "format", "bytes"));
  if (statistics.wanted())
    print(fmt::format(" {:>9} {:>9} {:>9} {:>9}", "min", "max", "rms", "outliers"));
  print(statistics.compares() ? " rel.error\n" : "\n");
  for (const Weight& weight : model.weights) {
    print(fmt::format("{:<32} {:<14} {:<7} {:>9}", weight.gguf_name, shape_text(weight.shape),
                      weight.format().name, human_bytes(weight.stored_bytes())));
    if (const auto stats = statistics(weight)) {
      print(fmt::format(" {:>9.3g} {:>9.3g} {:>9.3g} {:>8.4f}%", stats->minimum, stats->maximum,
                        stats->rms, 100 * stats->outlier_share));
      if (stats->relative_error) print(fmt::format(" {:>9.2e}", *stats->relative_error));
    }
    print("\n");
  }
}

Json to_json(const Model& model, Statistician& statistics) {
  Json tensors = Json::array();
  for (const Weight& weight : model.weights) {
    Json tensor = {{"name", weight.gguf_name},
                   {"shape", weight.shape},
                   {"format", std::string(weight.format().name)},
                   {"bytes", weight.stored_bytes()}};
    if (const auto stats = statistics(weight)) {
      tensor.update({{"min", stats->minimum},
                     {"max", stats->maximum},
                     {"rms", stats->rms},
                     {"outlier_share", stats->outlier_share}});
      if (stats->relative_error) tensor["relative_error"] = *stats->relative_error;
    }
    tensors.push_back(std::move(tensor));
  }
  return {{"architecture", std::string(model.architecture->gguf_name)},
          {"parameters", model.parameters()},
          {"bytes", model.store.file_bytes()},
          {"bits_per_weight", bits_per_weight(model)},
          {"activations", to_json(model.activations)},
          {"tensors", std::move(tensors)}};
}

void inspect(const InspectArguments& arguments) {
  const Model model = open_model(arguments.model);
  warn_all(model.warnings);
  const auto certificate = certificate_of(model);
  if (arguments.verify) verify(arguments, model, certificate);
  Statistician statistics(arguments);
  if (arguments.json) {
    Json json = to_json(model, statistics);
    if (certificate) json["certificate"] = *certificate;
    if (arguments.verify) json["verified"] = true;
    return print_json(json);
  }
  print_summary(model);
  if (certificate) print_certificate(*certificate);
  if (arguments.verify) print("  verified         the bytes are those that were certified\n");
  if (arguments.metadata) print_metadata(model);
  print_tensors(model, statistics);
}

}  // namespace

void add_inspect(CLI::App& app) {
  const auto arguments = std::make_shared<InspectArguments>();
  CLI::App* verb = app.add_subcommand("inspect", "Show what a model file holds");
  verb->add_option("model", arguments->model, "Hugging Face folder or .gguf file")->required();
  verb->add_flag("--stats", arguments->stats, "Minimum, maximum, RMS and outliers of each tensor");
  verb->add_option("--against", arguments->against,
                   "Another form of the model: adds each tensor's error to it");
  verb->add_flag("--verify", arguments->verify,
                 "Compute the certificate's hashes again; exit with 1 where they differ");
  verb->add_option("--source", arguments->source,
                   "With --verify: the model that the file was made from");
  verb->add_flag("--metadata", arguments->metadata, "Show the metadata too");
  verb->add_option("--threads", arguments->threads, "0: one for each processor")
      ->check(CLI::Range(0, 1024));
  verb->add_flag("--json", arguments->json, "Print the facts as JSON");
  verb->callback([arguments] { inspect(*arguments); });
}

}  // namespace fewbits::cli
