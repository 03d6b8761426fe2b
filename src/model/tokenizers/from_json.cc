#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "model/tokenizers/json_models.h"
#include "model/tokenizers/json_parts.h"
#include "model/tokenizers/parts.h"

// A Hugging Face tokenizer.json, with the tokenizer_config.json beside it.
namespace fewbits {
namespace {

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

void add_token_search(std::vector<AddedJson> added, std::string_view where, TokenizerParts& parts) {
  for (AddedJson& next : added) {
    if (next.normalized) next.token.text = parts.normalizer.apply(next.token.text);
    auto& search = next.normalized ? parts.normalized_tokens : parts.raw_tokens;
    search.add(std::move(next.token), where);
  }
}

void append_known(int64_t id, std::vector<Token>& tokens, const TokenizerParts& parts,
                  std::string_view where) {
  if (id < 0 || id >= parts.vocabulary.size()) {
    throw Error(fmt::format("{}: the post-processor names token {}, the vocabulary has {}", where,
                            id, parts.vocabulary.size()));
  }
  tokens.push_back(static_cast<Token>(id));
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
  for (const Json& json : ids) append_known(token_id(json, where), tokens, parts, where);
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

/// ["[CLS]", 101]: the older way to say what stands before and behind a text.
void read_mark(const Json& processor, const char* key, std::string_view where,
               TokenizerParts& parts) {
  const Json& pair = json_member(processor, key);
  if (!pair.is_array() || pair.size() != 2) {
    throw Error(fmt::format("{}: the post-processor's '{}' is no pair of text and id", where, key));
  }
  auto& tokens = key == std::string_view("cls") ? parts.prefix : parts.suffix;
  append_known(token_id(pair[1], where), tokens, parts, where);
}

void read_post_processor(const Json& tokenizer, std::string_view where, TokenizerParts& parts) {
  const Json& json = json_member(tokenizer, "post_processor");
  for (const Json* step : flatten_sequence(json, "processors", where)) {
    const std::string type = json_string(*step, "type", where);
    if (type == "ByteLevel") continue;  // only moves offsets, which nobody here asks for
    if (type == "BertProcessing" || type == "RobertaProcessing") {
      read_mark(*step, "cls", where, parts);
      read_mark(*step, "sep", where, parts);
      continue;
    }
    if (type != "TemplateProcessing") {
      unknown_part(
          "post-processor", type,
          {"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"},
          where);
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

}  // namespace

void read_tokenizer_config(const Json& config, std::string_view where, TokenizerParts& parts) {
  const auto read = [&](const char* key, std::optional<Token>& token) {
    if (const auto named = config_token(config, key, parts)) token = named;
  };
  read("cls_token", parts.bos);  // what encoders call it
  read("bos_token", parts.bos);
  read("sep_token", parts.eos);
  read("eos_token", parts.eos);
  read("mask_token", parts.mask);
  read("pad_token", parts.padding);
  if (!parts.unknown) read("unk_token", parts.unknown);
  if (!parts.bos && !parts.prefix.empty()) parts.bos = parts.prefix.front();
  if (!parts.eos && !parts.suffix.empty()) parts.eos = parts.suffix.back();
  if (!parts.eos && config.is_null()) parts.eos = guess_eos(parts);
  apply_flag(config, "add_bos_token", parts.bos, parts.prefix, where);
  apply_flag(config, "add_eos_token", parts.eos, parts.suffix, where);
}

std::unique_ptr<TokenizerParts> tokenizer_from_json(const Json& tokenizer, const Json& config,
                                                    std::string_view where) {
  auto parts = std::make_unique<TokenizerParts>();
  auto added = read_added(tokenizer, where);
  parts->normalizer = Normalizer::from_json(json_member(tokenizer, "normalizer"), where);
  parts->pre_tokenizer = PreTokenizer::from_json(json_member(tokenizer, "pre_tokenizer"), where);
  parts->decoder = Decoder::from_json(json_member(tokenizer, "decoder"), where);
  read_json_model(json_member(tokenizer, "model"), added, where, *parts);
  add_token_search(std::move(added), where, *parts);
  read_post_processor(tokenizer, where, *parts);
  read_tokenizer_config(config, where, *parts);
  finish_tokenizer(*parts);
  return parts;
}

}  // namespace fewbits
