#include "model/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text_view.h"
#include "files/gguf.h"
#include "files/layouts/join.h"
#include "files/lora.h"
#include "files/safetensors.h"
#include "files/torch_file.h"
#include "model/weights.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUnusedToken = 5;  // tokenizer.ggml.token_type of a token that never occurs

Json read_optional_json(const fs::path& path) {
  return fs::exists(path) ? read_json_file(path) : Json();
}

std::string read_text_file(const fs::path& path) {
  const MappedFile file = MappedFile::open(path);
  return std::string(text_view(file.bytes()));
}

/// One template, or the one called "default" of a list of named ones; "" where there is none.
std::string template_in(const Json& json, const fs::path& path) {
  const auto found = json.is_object() ? json.find("chat_template") : json.end();
  if (!json.is_object() || found == json.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) {
    throw Error(fmt::format("{}: 'chat_template' must be a string or a list", path.string()));
  }
  for (const Json& named : *found) {
    if (json_string(named, "name", path.string()) == "default") {
      return json_string(named, "template", path.string());
    }
  }
  return "";
}

/// A file of its own comes before tokenizer_config.json, as in transformers.
std::string read_chat_template(const fs::path& folder, const Json& tokenizer_config) {
  if (const fs::path file = folder / "chat_template.jinja"; fs::exists(file)) {
    return read_text_file(file);
  }
  const fs::path file = folder / "chat_template.json";
  std::string text = template_in(read_optional_json(file), file);
  return text.empty() ? template_in(tokenizer_config, folder / "tokenizer_config.json") : text;
}

/// eos_token_id of generation_config.json, where instruct models list every token that ends a turn.
std::vector<Token> read_stop_tokens(const fs::path& folder, int64_t vocabulary) {
  std::vector<Token> tokens;
  const Json config = read_optional_json(folder / "generation_config.json");
  const auto found = config.is_object() ? config.find("eos_token_id") : config.end();
  if (!config.is_object() || found == config.end()) return tokens;
  const Json list = found->is_array() ? *found : Json::array({*found});
  for (const Json& id : list) {
    if (!id.is_number_integer()) continue;
    const auto value = id.get<int64_t>();
    if (value >= 0 && value < vocabulary) tokens.push_back(static_cast<Token>(value));
  }
  return tokens;
}

/// Where the embedding has more rows than the tokenizer has tokens, GGUF wants names for the rest.
void pad_vocabulary(Metadata& metadata, int64_t vocabulary) {
  const auto* texts = metadata.strings("tokenizer.ggml.tokens");
  if (texts == nullptr || static_cast<int64_t>(texts->size()) >= vocabulary) return;
  const auto size = static_cast<size_t>(vocabulary);
  std::vector<std::string> padded = *texts;
  while (padded.size() < size) padded.push_back(fmt::format("[PAD{}]", padded.size()));
  metadata.set_strings("tokenizer.ggml.tokens", std::move(padded));
  if (const auto* types = metadata.integers("tokenizer.ggml.token_type")) {
    std::vector<int64_t> longer = *types;
    longer.resize(size, kUnusedToken);
    metadata.set_int32s("tokenizer.ggml.token_type", std::move(longer));
  }
  if (const auto* scores = metadata.numbers("tokenizer.ggml.scores")) {
    std::vector<double> longer = *scores;
    longer.resize(size, 0);
    metadata.set_floats("tokenizer.ggml.scores", std::move(longer));
  }
}

/// Sentence Transformers keeps how hidden states are pooled in a file of its own. An encoder
/// without it is pooled by the mean, as there.
void read_sentence_config(const fs::path& folder, ModelConfig& config) {
  const fs::path file = folder / "1_Pooling" / "config.json";
  const Json pooling = read_optional_json(file);
  const std::string where = file.string();
  if (pooling.is_object()) {
    using enum Pooling;
    constexpr std::pair<const char*, Pooling> kModes[] = {{"pooling_mode_mean_tokens", kMean},
                                                          {"pooling_mode_cls_token", kCls},
                                                          {"pooling_mode_lasttoken", kLast}};
    for (const auto& [key, mode] : kModes) {
      if (!json_bool_or(pooling, key, false, where)) continue;
      if (config.pooling != kNone) throw Error(where + ": several ways to pool at once");
      config.pooling = mode;
    }
    if (config.pooling == kNone) {
      throw Error(where + ": this way to pool is not supported; known: mean, cls, last");
    }
  } else if (!config.design.causal) {
    config.pooling = Pooling::kMean;
  }
}

Metadata describe(const Model& model) {
  Metadata metadata;
  const fs::path folder = fs::weakly_canonical(model.path);
  metadata.set_string("general.architecture", std::string(model.architecture->gguf_name));
  metadata.set_string("general.type", "model");
  metadata.set_string("general.name", folder.filename().string());
  write_config(*model.architecture, model.config, metadata);
  return metadata;
}

/// What may only be known once config and tokenizer are both there.
void check_model(const Model& model) {
  const ModelConfig& config = model.config;
  if (model.tokenizer.size() > config.vocabulary) {
    throw Error(fmt::format("{}: the tokenizer has {} tokens, the embedding only {} rows",
                            model.path.string(), model.tokenizer.size(), config.vocabulary));
  }
}

/// The config of the text part where the model has others that nobody here knows.
Json text_part(Json config, std::vector<std::string>& warnings) {
  const auto text = config.is_object() ? config.find("text_config") : config.end();
  if (!config.is_object() || text == config.end() || !text->is_object()) return config;
  if (is_known_architecture(config) || !is_known_architecture(*text)) return config;
  warnings.push_back("only the text part of the model is used; images and sounds are not for it");
  return *text;
}

fs::path needed_file(const fs::path& folder, const char* name, const char* hint) {
  const fs::path file = folder / name;
  if (fs::is_regular_file(file)) return file;
  throw Error(fmt::format("{}: has no {}; {}", folder.string(), name, hint));
}

/// The description of a checkpoint, or Llama's where only its tensors speak for that; what to warn
/// of then is added to `warnings`.
template <class Source>
const Architecture& find_architecture(const Source& source, const TensorStore& store, bool gguf,
                                      std::string_view where, std::vector<std::string>& warnings) {
  if (!is_known_architecture(source)) {
    const auto has = [&](const std::string& name) { return store.find(name) != nullptr; };
    if (const Architecture* llama = llama_shaped(has, gguf)) {
      warnings.push_back(
          "the architecture is not known; its tensors have Llama's names, so it is taken for a "
          "Llama: compare its output with the original's before trusting it");
      return *llama;
    }
  }
  return architecture_of(source, where);
}

/// Safetensors come first where both are there.
TensorStore open_weights(const fs::path& folder, const Json& config, const std::string& where,
                         ActivationScheme& activations) {
  const auto quantization = config.is_object() ? config.find("quantization_config") : config.end();
  if (config.is_object() && quantization != config.end() && quantization->is_object()) {
    TensorStore store = open_quantized_folder(folder);
    activations = join_tensors(store, *quantization, where);
    return store;
  }
  const bool safetensors = fs::exists(folder / "model.safetensors") ||
                           fs::exists(folder / "model.safetensors.index.json");
  return !safetensors && has_torch_files(folder) ? open_torch_folder(folder)
                                                 : open_safetensors_folder(folder);
}

Model open_folder(const fs::path& folder, const fs::path& lora) {
  const fs::path config_file =
      needed_file(folder, "config.json", "a model is a Hugging Face folder or a .gguf file");
  std::vector<std::string> warnings;
  const Json whole = read_json_file(config_file);
  const Json json = text_part(whole, warnings);
  const Json tokenizer_config = read_optional_json(folder / "tokenizer_config.json");
  ActivationScheme activations;
  TensorStore store = open_weights(folder, whole, config_file.string(), activations);
  if (!activations.inputs.unknown.empty()) {
    warnings.push_back("inputs of layers stay floats; how they are to be rounded is not known: " +
                       activations.inputs.unknown);
  }
  if (!lora.empty()) merge_lora(store, lora);
  const Architecture& architecture =
      find_architecture(json, store, false, config_file.string(), warnings);
  ModelConfig config = read_config(architecture, json, config_file.string());
  read_sentence_config(folder, config);
  Model model{.path = folder,
              .store = std::move(store),
              .derived = {},
              .architecture = &architecture,
              .config = config,
              .metadata = {},
              .tokenizer = Tokenizer::from_folder(folder, tokenizer_config),
              .chat_template = read_chat_template(folder, tokenizer_config),
              .stop_tokens = read_stop_tokens(folder, config.vocabulary),
              .weights = {},
              .warnings = std::move(warnings),
              .activations = std::move(activations)};
  find_weights(model, SourceKind::kHuggingFace);
  check_model(model);
  model.metadata = describe(model);
  return model;
}

Model open_file(const fs::path& path) {
  const std::string where = path.string();
  TensorStore store = open_gguf(path);
  Metadata metadata = store.metadata();
  std::vector<std::string> warnings;
  const Architecture& architecture = find_architecture(metadata, store, true, where, warnings);
  const ModelConfig config = read_config(architecture, metadata, where);
  Tokenizer tokenizer = Tokenizer::from_gguf(metadata, where);
  std::string chat_template = metadata.string("tokenizer.chat_template").value_or("");
  Model model{.path = path,
              .store = std::move(store),
              .derived = {},
              .architecture = &architecture,
              .config = config,
              .metadata = std::move(metadata),
              .tokenizer = std::move(tokenizer),
              .chat_template = std::move(chat_template),
              .stop_tokens = {},
              .weights = {},
              .warnings = std::move(warnings)};
  find_weights(model, SourceKind::kGguf);
  check_model(model);
  return model;
}

}  // namespace

int64_t Weight::rows() const {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

int64_t Weight::stored_bytes() const {
  const size_t tensors = std::max<size_t>(1, parts.size());
  return tensor->bytes() * static_cast<int64_t>(tensors);
}

std::span<const std::byte> Weight::row_bytes(int64_t row, std::vector<std::byte>& scratch) const {
  const int64_t stored = stored_rows.empty() ? row : stored_rows[static_cast<size_t>(row)];
  if (parts.empty()) return tensor->row(stored, scratch);
  const int64_t rows_of_part = parts.front()->view.rows();
  return parts[static_cast<size_t>(stored / rows_of_part)]->row(stored % rows_of_part, scratch);
}

void Weight::read_row(int64_t row, float* out) const {
  if (computed) return computed(row, out);
  if (transposed) {
    const TensorView& view = tensor->view;
    const int64_t size = view.format->block_bytes;
    for (int64_t i = 0; i < columns(); ++i) {
      decode(*view.format, view.row(i).data() + row * size, 1, out + i);
    }
  } else {
    std::vector<std::byte> scratch;
    decode(format(), row_bytes(row, scratch).data(), columns(), out);
  }
  if (added == 0) return;
  for (int64_t i = 0; i < columns(); ++i) out[i] += added;
}

void Weight::drop_pages() const {
  if (parts.empty()) return tensor->drop_pages();
  for (const StoredTensor* part : parts) part->drop_pages();
}

const Weight* Model::find(Role role, int64_t layer) const {
  const auto found = std::ranges::find_if(
      weights, [&](const Weight& weight) { return weight.role == role && weight.layer == layer; });
  return found == weights.end() ? nullptr : &*found;
}

int64_t Model::parameters() const {
  int64_t values = 0;
  for (const Weight& weight : weights) values += weight.values();
  return values;
}

bool Model::ends_generation(Token token) const {
  // Rows of the embedding beyond the tokenizer's vocabulary are no tokens.
  const bool known = token >= 0 && token < tokenizer.size();
  return (known && tokenizer.ends_generation(token)) ||
         std::ranges::find(stop_tokens, token) != stop_tokens.end();
}

Metadata gguf_metadata(const Model& model) {
  Metadata metadata = model.metadata;
  if (metadata.has("tokenizer.ggml.model")) return metadata;
  model.tokenizer.write_gguf(metadata);
  pad_vocabulary(metadata, model.config.vocabulary);
  if (!model.chat_template.empty()) {
    metadata.set_string("tokenizer.chat_template", model.chat_template);
  }
  return metadata;
}

Model open_model(const std::filesystem::path& path, const std::filesystem::path& lora) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return open_folder(path, lora);
  if (!fs::exists(path, ignored))
    throw Error(fmt::format("{}: no such file or folder", path.string()));
  if (path.extension() == ".json" || path.extension() == ".safetensors") {
    throw Error(fmt::format("{}: name the folder that holds it, not the file", path.string()));
  }
  if (!lora.empty()) {
    throw Error(fmt::format(
        "{}: an adapter has the names of a Hugging Face folder; give that model", path.string()));
  }
  return open_file(path);
}

}  // namespace fewbits
