#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "model/tokenizers/parts.h"
#include "model/tokenizers/pre_names.h"
#include "model/tokenizers/sentence_piece_text.h"

// The tokenizer.ggml.* keys of a GGUF file, with the meaning and the defaults of stock llama.cpp.
namespace fewbits {
namespace {

constexpr const char* kSpaceMark = "\u2581";

[[noreturn]] void fail(std::string_view where, std::string_view what) {
  throw Error(fmt::format("{}: {}", where, what));
}

const std::vector<std::string>& need_strings(const Metadata& metadata, const char* key,
                                             std::string_view where) {
  const auto* strings = metadata.strings(key);
  if (strings == nullptr) fail(where, fmt::format("{} is missing", key));
  return *strings;
}

TokenKind kind_from_number(int64_t number) {
  const bool known = number >= 1 && number <= 6;
  return known ? static_cast<TokenKind>(number) : TokenKind::kNormal;
}

void read_kinds(const Metadata& metadata, std::vector<VocabularyEntry>& entries,
                std::string_view where) {
  constexpr const char* key = "tokenizer.ggml.token_type";
  if (!metadata.has(key)) return;
  const auto* kinds = metadata.integers(key);
  if (kinds == nullptr || kinds->size() < entries.size()) {
    fail(where, fmt::format("{} must have {} integers", key, entries.size()));
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    entries[i].kind = kind_from_number((*kinds)[i]);
  }
}

void read_scores(const Metadata& metadata, std::vector<VocabularyEntry>& entries,
                 std::string_view where) {
  constexpr const char* key = "tokenizer.ggml.scores";
  if (!metadata.has(key)) return;
  const auto* scores = metadata.numbers(key);
  if (scores == nullptr || scores->size() < entries.size()) {
    fail(where, fmt::format("{} must have {} numbers", key, entries.size()));
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    if (!std::isfinite((*scores)[i]))
      fail(where, fmt::format("{}: token {} has no finite score", key, i));
    entries[i].score = static_cast<float>((*scores)[i]);
  }
}

std::vector<VocabularyEntry> read_entries(const Metadata& metadata, std::string_view where) {
  const auto& texts = need_strings(metadata, "tokenizer.ggml.tokens", where);
  if (texts.size() > INT32_MAX) fail(where, "more than 2^31 tokens");
  std::vector<VocabularyEntry> entries(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) entries[i].text = texts[i];
  read_kinds(metadata, entries, where);
  read_scores(metadata, entries, where);
  for (VocabularyEntry& entry : entries) {  // converters forget to mark some of these
    if (entry.kind == TokenKind::kNormal && is_end_of_turn(entry.text)) {
      entry.kind = TokenKind::kControl;
    }
  }
  return entries;
}

std::optional<Token> special_token(const Metadata& metadata, const char* name,
                                   std::optional<Token> fallback, const Vocabulary& vocabulary) {
  const auto id = metadata.integer(fmt::format("tokenizer.ggml.{}_token_id", name));
  // As in llama.cpp, an id outside the vocabulary is as none: some converters wrote -1.
  if (id && *id >= 0 && *id < vocabulary.size()) return static_cast<Token>(*id);
  return fallback && vocabulary.has(*fallback) ? fallback : std::nullopt;
}

/// The special tokens of a file that does not name them; -1: none.
struct Defaults {
  Token unknown = -1;
  Token bos = -1;
  Token eos = -1;
  Token padding = -1;
};

void read_special_tokens(const Metadata& metadata, const Defaults& defaults,
                         TokenizerParts& parts) {
  const auto read = [&](const char* name, Token fallback) {
    return special_token(metadata, name, fallback, parts.vocabulary);
  };
  parts.unknown = read("unknown", defaults.unknown);
  parts.bos = read("bos", defaults.bos);
  parts.eos = read("eos", defaults.eos);
  parts.padding = read("padding", defaults.padding);
  parts.mask = read("mask", -1);
  for (const char* name : {"eot", "eom"}) {
    if (const auto token = read(name, -1)) parts.end_tokens.push_back(*token);
  }
}

void read_flags(const Metadata& metadata, bool adds_bos, bool adds_eos, TokenizerParts& parts) {
  if (metadata.boolean("tokenizer.ggml.add_bos_token").value_or(adds_bos) && parts.bos) {
    parts.prefix = {*parts.bos};
  }
  if (metadata.boolean("tokenizer.ggml.add_eos_token").value_or(adds_eos) && parts.eos) {
    parts.suffix = {*parts.eos};
  }
}

void add_token_search(TokenizerParts& parts, std::string_view where) {
  for (Token token = 0; token < parts.vocabulary.size(); ++token) {
    const VocabularyEntry& entry = parts.vocabulary[token];
    const bool user = entry.kind == TokenKind::kUserDefined;
    if (user || entry.kind == TokenKind::kControl || entry.kind == TokenKind::kUnknown) {
      AddedToken added;
      added.text = entry.text;
      added.token = token;
      added.special = !user;
      parts.raw_tokens.add(std::move(added), where);
    }
  }
}

Bpe::MergeList read_merges(const Metadata& metadata, std::string_view where) {
  Bpe::MergeList merges;
  for (const std::string& text : need_strings(metadata, "tokenizer.ggml.merges", where)) {
    // A token may begin with a space of its own.
    const size_t space = text.size() > 1 ? text.find(' ', 1) : std::string::npos;
    if (space == std::string::npos) {
      fail(where, fmt::format("tokenizer.ggml.merges: merge {} is no pair", merges.size()));
    }
    merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
  return merges;
}

void build_byte_level(const Metadata& metadata, std::string_view where, TokenizerParts& parts) {
  // Files from before the key had a name are split by the default, well or badly.
  parts.gguf_pre = metadata.string("tokenizer.ggml.pre").value_or("default");
  const PreName& name = find_pre_name(parts.gguf_pre, where);
  std::vector<PreTokenizerStep> steps;
  for (const std::string_view expression : name.expressions) {
    steps.emplace_back(SplitText{TextPattern::regex(expression, where)});
  }
  parts.pre_tokenizer = PreTokenizer(std::move(steps), /*byte_level=*/true);
  Bpe::Options options;
  options.byte_level = true;
  options.ignore_merges = name.ignore_merges;
  parts.set_model(Bpe::from_merges(parts.vocabulary, read_merges(metadata, where), options, where));
  std::vector<DecoderStep> decode;
  decode.emplace_back(DecodeByteLevel{});
  parts.decoder = Decoder(std::move(decode), {});
  read_special_tokens(metadata, {}, parts);
  read_flags(metadata, name.adds_bos, /*adds_eos=*/false, parts);
}

void build_sentence_piece(const Metadata& metadata, TokenizerParts& parts) {
  parts.gguf_pre = metadata.string("tokenizer.ggml.pre").value_or("default");
  const bool prefix = metadata.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  parts.normalizer = normalizer_of({.prefix = prefix}, "tokenizer");
  read_special_tokens(metadata, {.unknown = 0, .bos = 1, .eos = 2}, parts);
  Bpe::Options options;
  options.byte_fallback = true;
  options.unknown = parts.unknown;
  parts.set_model(Bpe::from_scores(parts.vocabulary, options));
  parts.decoder = decoder_of_marks(prefix);
  read_flags(metadata, /*adds_bos=*/true, /*adds_eos=*/false, parts);
}

/// GGUF's "bert": BERT's own text stages; the vocabulary marks what begins a word.
void build_word_piece(const Metadata& metadata, TokenizerParts& parts, std::string_view where) {
  parts.gguf_pre = metadata.string("tokenizer.ggml.pre").value_or("default");
  BertText text;
  text.lowercase = metadata.boolean("tokenizer.ggml.normalizer.lowercase").value_or(true);
  text.strip_accents = metadata.boolean("tokenizer.ggml.normalizer.strip_accents").value_or(true);
  std::vector<NormalizerStep> steps;
  steps.emplace_back(text);
  parts.normalizer = Normalizer(std::move(steps));
  std::vector<PreTokenizerStep> split;
  split.emplace_back(SplitBert{});
  parts.pre_tokenizer = PreTokenizer(std::move(split), /*byte_level=*/false);
  read_special_tokens(metadata, {.unknown = 100, .bos = 101, .padding = 0}, parts);
  parts.eos = special_token(metadata, "seperator", 102, parts.vocabulary);  // llama.cpp's spelling
  if (!parts.unknown) fail(where, "tokenizer.ggml.unknown_token_id is missing");
  WordPiece::Options options;
  options.begin_mark = kSpaceMark;
  options.continue_mark = "";
  options.unknown = *parts.unknown;
  std::vector<bool> is_piece;
  for (const VocabularyEntry& entry : parts.vocabulary.entries()) {
    is_piece.push_back(entry.kind == TokenKind::kNormal);
  }
  parts.set_model(std::make_unique<WordPiece>(parts.vocabulary, is_piece, options));
  std::vector<DecoderStep> decode;
  decode.emplace_back(DecodeMarks{kSpaceMark});
  decode.emplace_back(DecodeCleanUp{});
  parts.decoder = Decoder(std::move(decode), {});
  if (parts.bos) parts.prefix = {*parts.bos};
  if (parts.eos) parts.suffix = {*parts.eos};
}

std::string read_charsmap(const Metadata& metadata) {
  const auto* values = metadata.integers("tokenizer.ggml.precompiled_charsmap");
  std::string bytes;
  if (values == nullptr) return bytes;
  for (const int64_t value : *values) bytes += static_cast<char>(value & 0xFF);
  return bytes;
}

/// GGUF's "t5": Unigram.
void build_unigram(const Metadata& metadata, TokenizerParts& parts, std::string_view where) {
  parts.gguf_pre = metadata.string("tokenizer.ggml.pre").value_or("default");
  SentencePieceText text;
  text.charsmap = read_charsmap(metadata);
  text.prefix = metadata.boolean("tokenizer.ggml.add_space_prefix").value_or(false);
  text.collapse = metadata.boolean("tokenizer.ggml.remove_extra_whitespaces").value_or(false);
  parts.normalizer = normalizer_of(std::move(text), where);
  read_special_tokens(metadata, {.unknown = 2, .eos = 1, .padding = 0}, parts);
  parts.set_model(std::make_unique<Unigram>(parts.vocabulary, scores_of_text(parts.vocabulary),
                                            Unigram::Options{.unknown = parts.unknown}));
  parts.decoder =
      decoder_of_marks(metadata.boolean("tokenizer.ggml.add_space_prefix").value_or(false));
  read_flags(metadata, /*adds_bos=*/false, /*adds_eos=*/true, parts);
}

}  // namespace

std::unique_ptr<TokenizerParts> tokenizer_from_gguf(const Metadata& metadata,
                                                    std::string_view where) {
  auto parts = std::make_unique<TokenizerParts>();
  const auto model = metadata.string("tokenizer.ggml.model");
  if (!model) fail(where, "tokenizer.ggml.model is missing");
  parts->vocabulary = Vocabulary(read_entries(metadata, where), where);
  if (*model == "gpt2") {
    build_byte_level(metadata, where, *parts);
  } else if (*model == "llama") {
    build_sentence_piece(metadata, *parts);
  } else if (*model == "bert") {
    build_word_piece(metadata, *parts, where);
  } else if (*model == "t5") {
    build_unigram(metadata, *parts, where);
  } else {
    fail(where,
         fmt::format("tokenizer.ggml.model '{}' is not supported; known: bert, gpt2, llama, t5",
                     *model));
  }
  add_token_search(*parts, where);
  finish_tokenizer(*parts);
  return parts;
}

}  // namespace fewbits
