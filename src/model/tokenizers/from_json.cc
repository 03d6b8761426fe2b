#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "model/tokenizers/json_parts.h"
#include "model/tokenizers/parts.h"

// A Hugging Face tokenizer.json, with the tokenizer_config.json beside it.
namespace fewbits {
namespace {

/// One element of "added_tokens".
struct AddedJson {
  AddedToken token;
  bool normalized = false;  ///< looked for in the normalized text
};

std::vector<AddedJson> read_added(const Json& tokenizer, std::string_view where) {
  std::vector<AddedJson> added;
  const Json& list = json_member(tokenizer, "added_tokens");
  if (list.is_null()) return added;
  if (!list.is_array()) throw Error(fmt::format("{}: 'added_tokens' must be a list", where));
  for (const Json& json : list) {
    AddedJson& next = added.emplace_back();
    const int64_t id = json_integer(json, "id", where);
    if (id < 0 || id > INT32_MAX) {
      throw Error(fmt::format("{}: added token with id {}", where, id));
    }
    next.token.token = static_cast<Token>(id);
    next.token.text = json_string(json, "content", where);
    next.token.special = json_bool_or(json, "special", false, where);
    next.token.left_strip = json_bool_or(json, "lstrip", false, where);
    next.token.right_strip = json_bool_or(json, "rstrip", false, where);
    next.token.single_word = json_bool_or(json, "single_word", false, where);
    next.normalized = json_bool_or(json, "normalized", !next.token.special, where);
  }
  return added;
}

int64_t token_id(const Json& value, std::string_view where) {
  if (!value.is_number_integer()) throw Error(fmt::format("{}: a token id is no integer", where));
  return value.get<int64_t>();
}

/// One more than the highest id. Ids may leave holes, but not so many that a few bytes of JSON take
/// gigabytes.
int64_t vocabulary_size(const Json& vocabulary, const std::vector<AddedJson>& added,
                        std::string_view where) {
  constexpr int64_t kHoles = 65536;
  const int64_t limit = 2 * std::ssize(vocabulary) + std::ssize(added) + kHoles;
  int64_t size = 0;
  const auto count = [&](int64_t id, const std::string& text) {
    if (id < 0 || id >= limit) {
      throw Error(fmt::format("{}: token '{}' has id {}; with so few tokens it must be below {}",
                              where, text, id, limit));
    }
    size = std::max(size, id + 1);
  };
  for (const auto& [text, id] : vocabulary.items()) count(token_id(id, where), text);
  for (const AddedJson& next : added) count(next.token.token, next.token.text);
  return size;
}

void place(VocabularyEntry& entry, int64_t id, const std::string& text, TokenKind kind,
           std::string_view where) {
  if (!entry.text.empty() && entry.text != text) {
    throw Error(fmt::format("{}: id {} is both '{}' and '{}'", where, id, entry.text, text));
  }
  entry.text = text;
  entry.kind = kind;
}

std::vector<VocabularyEntry> read_entries(const Json& model, const std::vector<AddedJson>& added,
                                          std::string_view where) {
  const Json& vocabulary = json_member(model, "vocab");
  if (!vocabulary.is_object()) throw Error(fmt::format("{}: model has no 'vocab'", where));
  std::vector<VocabularyEntry> entries(
      static_cast<size_t>(vocabulary_size(vocabulary, added, where)));
  const bool byte_fallback = json_bool_or(model, "byte_fallback", false, where);
  for (const auto& [text, value] : vocabulary.items()) {
    const int64_t id = token_id(value, where);
    const bool byte = byte_fallback && byte_of_token(text);
    place(entries[static_cast<size_t>(id)], id, text, byte ? TokenKind::kByte : TokenKind::kNormal,
          where);
  }
  for (const AddedJson& next : added) {
    const auto kind = next.token.special ? TokenKind::kControl : TokenKind::kUserDefined;
    const Token id = next.token.token;
    place(entries[static_cast<size_t>(id)], id, next.token.text, kind, where);
  }
  for (size_t id = 0; id < entries.size(); ++id) {
    if (entries[id].text.empty()) entries[id] = {fmt::format("[PAD{}]", id), 0, TokenKind::kUnused};
  }
  return entries;
}

Bpe::MergeList read_merges(const Json& model, std::string_view where) {
  const Json& list = json_member(model, "merges");
  if (!list.is_array()) throw Error(fmt::format("{}: model has no 'merges'", where));
  Bpe::MergeList merges;
  merges.reserve(list.size());
  for (const Json& json : list) {
    const bool pair =
        json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string();
    if (pair) {
      merges.emplace_back(json[0].get<std::string>(), json[1].get<std::string>());
      continue;
    }
    const std::string text = json.is_string() ? json.get<std::string>() : std::string();
    const size_t space = text.find(' ');
    if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
      throw Error(fmt::format("{}: merge {} is no pair of texts", where, merges.size()));
    }
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return merges;
}

/// Options of the model that change tokens and that nothing here supports.
void refuse_unsupported(const Json& model, std::string_view where) {
  if (json_string_or(model, "type", "BPE", where) != "BPE") {
    unknown_part("model", json_string(model, "type", where), {"BPE"}, where);
  }
  if (json_number_or(model, "dropout", 0, where) != 0) {
    throw Error(
        fmt::format("{}: BPE with dropout gives random tokens; set dropout to null", where));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string value = json_string_or(model, key, "", where);
    if (!value.empty()) throw Error(fmt::format("{}: BPE with {} is not supported", where, key));
  }
}

void read_model(const Json& model, std::string_view where, TokenizerParts& parts) {
  Bpe::Options options;
  options.byte_level = parts.pre_tokenizer.byte_level();
  options.ignore_merges = json_bool_or(model, "ignore_merges", false, where);
  options.byte_fallback = json_bool_or(model, "byte_fallback", false, where);
  options.fuse_unknown = json_bool_or(model, "fuse_unk", false, where);
  const std::string unknown = json_string_or(model, "unk_token", "", where);
  if (!unknown.empty()) {
    options.unknown = parts.unknown = parts.vocabulary.find(unknown);
    if (!parts.unknown) {
      throw Error(fmt::format("{}: unk_token '{}' is not in the vocabulary", where, unknown));
    }
  }
  parts.set_model(Bpe::from_merges(parts.vocabulary, read_merges(model, where), options, where));
}

void add_token_search(std::vector<AddedJson> added, std::string_view where, TokenizerParts& parts) {
  for (AddedJson& next : added) {
    if (next.normalized) next.token.text = parts.normalizer.apply(next.token.text);
    auto& search = next.normalized ? parts.normalized_tokens : parts.raw_tokens;
    search.add(std::move(next.token), where);
  }
}

/// The ids of one special token of a template.
void append_template_ids(const Json& processor, const Json& item, std::vector<Token>& tokens,
                         const TokenizerParts& parts, std::string_view where) {
  const std::string name = json_string(item, "id", where);
  const Json& special = json_member(json_member(processor, "special_tokens"), name.c_str());
  const Json& ids = json_member(special, "ids");
  if (!ids.is_array()) {
    throw Error(fmt::format("{}: TemplateProcessing lacks the ids of '{}'", where, name));
  }
  for (const Json& json : ids) {
    const int64_t id = token_id(json, where);
    if (id < 0 || id >= parts.vocabulary.size()) {
      throw Error(fmt::format("{}: TemplateProcessing names token {}, the vocabulary has {}", where,
                              id, parts.vocabulary.size()));
    }
    tokens.push_back(static_cast<Token>(id));
  }
}

void read_template(const Json& processor, std::string_view where, TokenizerParts& parts) {
  const Json& items = json_member(processor, "single");
  if (!items.is_array()) throw Error(fmt::format("{}: TemplateProcessing has no 'single'", where));
  bool behind = false;
  for (const Json& item : items) {
    const Json& special = json_member(item, "SpecialToken");
    if (special.is_null()) {
      behind = true;
    } else {
      append_template_ids(processor, special, behind ? parts.suffix : parts.prefix, parts, where);
    }
  }
}

void read_post_processor(const Json& tokenizer, std::string_view where, TokenizerParts& parts) {
  const Json& json = json_member(tokenizer, "post_processor");
  for (const Json* step : flatten_sequence(json, "processors", where)) {
    const std::string type = json_string(*step, "type", where);
    if (type == "ByteLevel") continue;  // only moves offsets, which nobody here asks for
    if (type != "TemplateProcessing") {
      unknown_part("post-processor", type, {"ByteLevel", "Sequence", "TemplateProcessing"}, where);
    }
    read_template(*step, where, parts);
  }
}

/// "bos_token": a text, or an object with the text in "content".
std::optional<Token> config_token(const Json& config, const char* key,
                                  const TokenizerParts& parts) {
  const Json& value = json_member(config, key);
  const Json& text = value.is_object() ? json_member(value, "content") : value;
  return text.is_string() ? parts.vocabulary.find(text.get<std::string>()) : std::nullopt;
}

/// Without a config, EOS is guessed from the names it mostly has.
std::optional<Token> guess_eos(const TokenizerParts& parts) {
  for (const char* name : {"</s>", "<|end_of_text|>", "<|endoftext|>", "<eos>"}) {
    if (const auto token = parts.vocabulary.find(name)) return token;
  }
  return std::nullopt;
}

/// add_bos_token and add_eos_token have the last word over the template, as in transformers.
void apply_flag(const Json& config, const char* key, std::optional<Token> token,
                std::vector<Token>& tokens, std::string_view where) {
  if (json_member(config, key).is_null()) return;
  tokens.clear();
  if (json_bool_or(config, key, false, where) && token) tokens = {*token};
}

void read_config(const Json& config, std::string_view where, TokenizerParts& parts) {
  parts.bos = config_token(config, "bos_token", parts);
  parts.eos = config_token(config, "eos_token", parts);
  parts.padding = config_token(config, "pad_token", parts);
  if (!parts.unknown) parts.unknown = config_token(config, "unk_token", parts);
  if (!parts.bos && !parts.prefix.empty()) parts.bos = parts.prefix.front();
  if (!parts.eos && config.is_null()) parts.eos = guess_eos(parts);
  apply_flag(config, "add_bos_token", parts.bos, parts.prefix, where);
  apply_flag(config, "add_eos_token", parts.eos, parts.suffix, where);
}

}  // namespace

std::unique_ptr<TokenizerParts> tokenizer_from_json(const Json& tokenizer, const Json& config,
                                                    std::string_view where) {
  auto parts = std::make_unique<TokenizerParts>();
  const Json& model = json_member(tokenizer, "model");
  if (!model.is_object()) throw Error(fmt::format("{}: 'model' is missing", where));
  refuse_unsupported(model, where);
  auto added = read_added(tokenizer, where);
  parts->vocabulary = Vocabulary(read_entries(model, added, where), where);
  parts->normalizer = Normalizer::from_json(json_member(tokenizer, "normalizer"), where);
  parts->pre_tokenizer = PreTokenizer::from_json(json_member(tokenizer, "pre_tokenizer"), where);
  parts->decoder = Decoder::from_json(json_member(tokenizer, "decoder"), where);
  read_model(model, where, *parts);
  add_token_search(std::move(added), where, *parts);
  read_post_processor(tokenizer, where, *parts);
  read_config(config, where, *parts);
  finish_tokenizer(*parts);
  return parts;
}

}  // namespace fewbits
