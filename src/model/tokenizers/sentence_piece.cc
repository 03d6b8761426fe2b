#include "model/tokenizers/sentence_piece.h"

#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "model/tokenizers/json_models.h"
#include "model/tokenizers/protobuf.h"
#include "model/tokenizers/sentence_piece_text.h"

namespace fewbits {
namespace {

using Kind = ProtobufField::Kind;

constexpr uint64_t kUnigram = 1;
constexpr uint64_t kBpe = 2;

/// The fields of ModelProto that matter, with the defaults of its definition.
struct ModelProto {
  std::vector<VocabularyEntry> pieces;
  uint64_t model_type = kUnigram;
  bool byte_fallback = false;
  bool suffix_spaces = false;
  bool escape_spaces = true;
  int64_t unknown = 0, bos = 1, eos = 2, padding = -1;  ///< negative: none
  SentencePieceText text = {.charsmap = {}, .prefix = true, .collapse = true};
};

VocabularyEntry read_piece(std::string_view message, std::string_view where) {
  VocabularyEntry entry;
  ProtobufReader reader(message, where);
  while (const auto field = reader.next()) {
    if (field->number == 1 && field->kind == Kind::kBytes) entry.text = field->bytes;
    if (field->number == 2 && field->kind == Kind::kInteger) entry.score = field->as_float();
    if (field->number == 3 && field->integer >= 1 && field->integer <= 6) {
      entry.kind = static_cast<TokenKind>(field->integer);
    }
  }
  if (!std::isfinite(entry.score)) {
    throw Error(fmt::format("{}: piece '{}' has no finite score", where, entry.text));
  }
  return entry;
}

void read_trainer(std::string_view message, std::string_view where, ModelProto& model) {
  ProtobufReader reader(message, where);
  while (const auto field = reader.next()) {
    if (field->kind != Kind::kInteger) continue;
    const auto id = static_cast<int64_t>(field->integer);
    if (field->number == 3) model.model_type = field->integer;
    if (field->number == 24) model.suffix_spaces = field->integer != 0;
    if (field->number == 35) model.byte_fallback = field->integer != 0;
    if (field->number == 40) model.unknown = id;
    if (field->number == 41) model.bos = id;
    if (field->number == 42) model.eos = id;
    if (field->number == 43) model.padding = id;
  }
}

void read_normalizer(std::string_view message, std::string_view where, ModelProto& model) {
  ProtobufReader reader(message, where);
  while (const auto field = reader.next()) {
    if (field->number == 2 && field->kind == Kind::kBytes) model.text.charsmap = field->bytes;
    if (field->kind != Kind::kInteger) continue;
    if (field->number == 3) model.text.prefix = field->integer != 0;
    if (field->number == 4) model.text.collapse = field->integer != 0;
    if (field->number == 5) model.escape_spaces = field->integer != 0;
  }
}

ModelProto read_proto(std::string_view bytes, std::string_view where) {
  ModelProto model;
  ProtobufReader reader(bytes, where);
  while (const auto field = reader.next()) {
    if (field->kind != Kind::kBytes) continue;
    if (field->number == 1) model.pieces.push_back(read_piece(field->bytes, where));
    if (field->number == 2) read_trainer(field->bytes, where, model);
    if (field->number == 3) read_normalizer(field->bytes, where, model);
  }
  if (model.pieces.empty()) throw Error(fmt::format("{}: holds no pieces", where));
  if (model.pieces.size() > INT32_MAX) throw Error(fmt::format("{}: more than 2^31 pieces", where));
  if (model.model_type != kUnigram && model.model_type != kBpe) {
    throw Error(fmt::format("{}: model_type {} is not supported; known: 1 (unigram), 2 (bpe)",
                            where, model.model_type));
  }
  if (model.suffix_spaces || !model.escape_spaces) {
    throw Error(fmt::format(
        "{}: spaces as suffixes (treat_whitespace_as_suffix) or without marks (escape_whitespaces "
        "off) are not supported",
        where));
  }
  return model;
}

std::optional<Token> known(int64_t id, const Vocabulary& vocabulary) {
  if (id < 0 || id >= vocabulary.size()) return std::nullopt;
  return static_cast<Token>(id);
}

/// User-defined pieces are found once spaces are marks, the rest only where special tokens are
/// asked for.
void add_token_search(TokenizerParts& parts, std::string_view where) {
  for (Token token = 0; token < parts.vocabulary.size(); ++token) {
    const VocabularyEntry& entry = parts.vocabulary[token];
    AddedToken added;
    added.text = entry.text;
    added.token = token;
    if (entry.kind == TokenKind::kUserDefined) {
      parts.normalized_tokens.add(std::move(added), where);
    } else if (entry.kind == TokenKind::kControl || entry.kind == TokenKind::kUnknown) {
      added.special = true;
      parts.raw_tokens.add(std::move(added), where);
    }
  }
}

void set_model(const ModelProto& model, TokenizerParts& parts) {
  if (model.model_type == kUnigram) {
    Unigram::Options options;
    options.unknown = parts.unknown;
    options.byte_fallback = model.byte_fallback;
    options.single_precision = true;
    parts.set_model(
        std::make_unique<Unigram>(parts.vocabulary, scores_of_text(parts.vocabulary), options));
    if (parts.eos) parts.suffix = {*parts.eos};
    return;
  }
  Bpe::Options options;
  options.unknown = parts.unknown;
  options.byte_fallback = model.byte_fallback;
  options.fuse_unknown = true;
  parts.set_model(Bpe::from_scores(parts.vocabulary, options));
  if (parts.bos) parts.prefix = {*parts.bos};
}

}  // namespace

std::unique_ptr<TokenizerParts> tokenizer_from_sentence_piece(std::string_view bytes,
                                                              const Json& config,
                                                              std::string_view where) {
  ModelProto model = read_proto(bytes, where);
  auto parts = std::make_unique<TokenizerParts>();
  parts->gguf_pre = "default";  // its scores are the tokenizer, not a list of merges
  parts->vocabulary = Vocabulary(std::move(model.pieces), where);
  parts->unknown = known(model.unknown, parts->vocabulary);
  parts->bos = known(model.bos, parts->vocabulary);
  parts->eos = known(model.eos, parts->vocabulary);
  parts->padding = known(model.padding, parts->vocabulary);
  parts->decoder = decoder_of_marks(model.text.prefix);
  parts->normalizer = normalizer_of(std::move(model.text), where);
  set_model(model, *parts);
  add_token_search(*parts, where);
  read_tokenizer_config(config, where, *parts);
  finish_tokenizer(*parts);
  return parts;
}

}  // namespace fewbits
