#include "model/tokenizers/json_models.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/tokenizers/json_parts.h"

namespace fewbits {
namespace {

/// One token of the model's own vocabulary. The text is the JSON's.
struct Item {
  const std::string* text;
  int64_t id;
  double score = 0;
};

int64_t token_id(const Json& value, std::string_view where) {
  if (!value.is_number_integer()) throw Error(fmt::format("{}: a token id is no integer", where));
  return value.get<int64_t>();
}

/// {"text": id, ..} or, for Unigram, [["text", score], ..]
std::vector<Item> read_items(const Json& model, const std::vector<std::string>& texts,
                             std::string_view where) {
  const Json& vocabulary = json_member(model, "vocab");
  std::vector<Item> items;
  items.reserve(texts.size());
  if (vocabulary.is_array()) {
    for (const Json& json : vocabulary) {
      const size_t id = items.size();
      if (!json.is_array() || json.size() != 2 || !json[0].is_string() || !json[1].is_number()) {
        throw Error(fmt::format("{}: token {} is no pair of text and score", where, id));
      }
      items.push_back({&texts[id], static_cast<int64_t>(id), json[1].get<double>()});
    }
    return items;
  }
  size_t at = 0;
  for (const Json& id : vocabulary) items.push_back({&texts[at++], token_id(id, where)});
  return items;
}

/// The texts of the vocabulary in the order of its elements.
std::vector<std::string> read_texts(const Json& model, std::string_view where) {
  const Json& vocabulary = json_member(model, "vocab");
  std::vector<std::string> texts;
  if (vocabulary.is_object()) {
    for (const auto& [text, id] : vocabulary.items()) texts.push_back(text);
  } else if (vocabulary.is_array()) {
    for (const Json& json : vocabulary) {
      const bool pair = json.is_array() && !json.empty() && json[0].is_string();
      texts.push_back(pair ? json[0].get<std::string>() : std::string());
    }
  } else {
    throw Error(fmt::format("{}: model has no 'vocab'", where));
  }
  return texts;
}

/// One more than the highest id. Ids may leave holes, but not so many that a few bytes of JSON take
/// gigabytes.
int64_t vocabulary_size(const std::vector<Item>& items, const std::vector<AddedJson>& added,
                        std::string_view where) {
  constexpr int64_t kHoles = 65536;
  const int64_t limit = 2 * std::ssize(items) + std::ssize(added) + kHoles;
  int64_t size = 0;
  const auto count = [&](int64_t id, const std::string& text) {
    if (id < 0 || id >= limit) {
      throw Error(fmt::format("{}: token '{}' has id {}; with so few tokens it must be below {}",
                              where, text, id, limit));
    }
    size = std::max(size, id + 1);
  };
  for (const Item& item : items) count(item.id, *item.text);
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

std::vector<VocabularyEntry> make_entries(const std::vector<Item>& items,
                                          const std::vector<AddedJson>& added, bool byte_fallback,
                                          std::string_view where) {
  std::vector<VocabularyEntry> entries(static_cast<size_t>(vocabulary_size(items, added, where)));
  for (const auto& [text, id, score] : items) {
    const bool byte = byte_fallback && byte_of_token(*text);
    VocabularyEntry& entry = entries[static_cast<size_t>(id)];
    place(entry, id, *text, byte ? TokenKind::kByte : TokenKind::kNormal, where);
    entry.score = static_cast<float>(score);
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

/// "unk_token", a text. It is the unknown token of the tokenizer too.
std::optional<Token> read_unknown(const Json& model, std::string_view where,
                                  TokenizerParts& parts) {
  const std::string unknown = json_string_or(model, "unk_token", "", where);
  if (unknown.empty()) return std::nullopt;
  parts.unknown = parts.vocabulary.find(unknown);
  if (!parts.unknown) {
    throw Error(fmt::format("{}: unk_token '{}' is not in the vocabulary", where, unknown));
  }
  return parts.unknown;
}

void read_bpe(const Json& model, std::string_view where, TokenizerParts& parts) {
  if (json_number_or(model, "dropout", 0, where) != 0) {
    throw Error(
        fmt::format("{}: BPE with dropout gives random tokens; set dropout to null", where));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string value = json_string_or(model, key, "", where);
    if (!value.empty()) throw Error(fmt::format("{}: BPE with {} is not supported", where, key));
  }
  Bpe::Options options;
  options.byte_level = parts.pre_tokenizer.byte_level();
  options.ignore_merges = json_bool_or(model, "ignore_merges", false, where);
  options.byte_fallback = json_bool_or(model, "byte_fallback", false, where);
  options.fuse_unknown = json_bool_or(model, "fuse_unk", false, where);
  options.unknown = read_unknown(model, where, parts);
  parts.set_model(Bpe::from_merges(parts.vocabulary, read_merges(model, where), options, where));
}

void refuse_byte_level(const TokenizerParts& parts, const char* type, std::string_view where) {
  if (!parts.pre_tokenizer.byte_level()) return;
  throw Error(fmt::format("{}: {} behind a ByteLevel pre-tokenizer is not supported", where, type));
}

void read_word_piece(const Json& model, const std::vector<Item>& items, std::string_view where,
                     TokenizerParts& parts) {
  refuse_byte_level(parts, "WordPiece", where);
  WordPiece::Options options;
  options.continue_mark = json_string_or(model, "continuing_subword_prefix", "##", where);
  options.max_characters = json_integer_or(model, "max_input_chars_per_word", 100, where);
  const auto unknown = read_unknown(model, where, parts);
  if (!unknown) throw Error(fmt::format("{}: WordPiece needs an unk_token", where));
  options.unknown = *unknown;
  std::vector<bool> is_piece(static_cast<size_t>(parts.vocabulary.size()), false);
  for (const Item& item : items) is_piece[static_cast<size_t>(item.id)] = true;
  parts.set_model(std::make_unique<WordPiece>(parts.vocabulary, is_piece, options));
}

void read_unigram(const Json& model, const std::vector<Item>& items, std::string_view where,
                  TokenizerParts& parts) {
  refuse_byte_level(parts, "Unigram", where);
  Unigram::Options options;
  options.byte_fallback = json_bool_or(model, "byte_fallback", false, where);
  const int64_t unknown = json_integer_or(model, "unk_id", -1, where);
  if (unknown >= parts.vocabulary.size()) {
    throw Error(fmt::format("{}: unk_id {} is not in the vocabulary of {}", where, unknown,
                            parts.vocabulary.size()));
  }
  if (unknown >= 0) options.unknown = parts.unknown = static_cast<Token>(unknown);
  std::vector<double> scores(static_cast<size_t>(parts.vocabulary.size()),
                             std::numeric_limits<double>::quiet_NaN());
  for (const Item& item : items) {
    if (!(std::abs(item.score) <= std::numeric_limits<float>::max())) {
      throw Error(fmt::format("{}: token '{}' has the score {}", where, *item.text, item.score));
    }
    scores[static_cast<size_t>(item.id)] = item.score;
  }
  parts.set_model(std::make_unique<Unigram>(parts.vocabulary, std::move(scores), options));
}

/// Files from before the models had names are told apart by what they hold.
std::string type_of(const Json& model, std::string_view where) {
  std::string fallback = "BPE";
  if (json_member(model, "vocab").is_array()) fallback = "Unigram";
  if (json_member(model, "max_input_chars_per_word").is_number()) fallback = "WordPiece";
  return json_string_or(model, "type", fallback, where);
}

}  // namespace

void read_json_model(const Json& model, const std::vector<AddedJson>& added, std::string_view where,
                     TokenizerParts& parts) {
  if (!model.is_object()) throw Error(fmt::format("{}: 'model' is missing", where));
  const std::string type = type_of(model, where);
  if (type != "BPE" && type != "WordPiece" && type != "Unigram") {
    unknown_part("model", type, {"BPE", "Unigram", "WordPiece"}, where);
  }
  const Json& vocabulary = json_member(model, "vocab");
  if (type == "Unigram" ? !vocabulary.is_array() : !vocabulary.is_object()) {
    throw Error(fmt::format("{}: model has no 'vocab' as {} has it", where, type));
  }
  const auto texts = read_texts(model, where);
  const auto items = read_items(model, texts, where);
  const bool byte_fallback = json_bool_or(model, "byte_fallback", false, where);
  parts.vocabulary = Vocabulary(make_entries(items, added, byte_fallback, where), where);
  if (type == "BPE") return read_bpe(model, where, parts);
  if (type == "WordPiece") return read_word_piece(model, items, where, parts);
  read_unigram(model, items, where, parts);
}

}  // namespace fewbits
