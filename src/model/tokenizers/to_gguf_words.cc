#include <fmt/format.h>

#include <unordered_set>

#include "base/error.h"
#include "model/tokenizers/to_gguf.h"

namespace fewbits {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

void write_kinds(const TokenizerParts& parts, Metadata& metadata) {
  std::vector<int64_t> kinds;
  for (const VocabularyEntry& entry : parts.vocabulary.entries()) {
    kinds.push_back(static_cast<int64_t>(entry.kind));
  }
  if (parts.unigram != nullptr && parts.unknown) {
    kinds[static_cast<size_t>(*parts.unknown)] = static_cast<int64_t>(TokenKind::kUnknown);
  }
  metadata.set_int32s("tokenizer.ggml.token_type", std::move(kinds));
}

/// BERT's own text stages, the only ones that GGUF's "bert" stands for.
const BertText& bert_text_of(const TokenizerParts& parts) {
  const auto& normalizer = parts.normalizer.steps();
  const auto& splits = parts.pre_tokenizer.steps();
  const auto* text = normalizer.size() == 1 ? std::get_if<BertText>(normalizer.data()) : nullptr;
  const bool split = splits.size() == 1 && std::holds_alternative<SplitBert>(splits[0]);
  if (text == nullptr || !text->clean || !text->space_chinese || !split) {
    throw Error(
        "tokenizer: GGUF can hold WordPiece behind BertNormalizer (with clean_text and "
        "handle_chinese_chars) and BertPreTokenizer only");
  }
  return *text;
}

/// GGUF marks what begins a word instead of what continues one.
std::vector<std::string> marked_texts(const TokenizerParts& parts) {
  const WordPiece::Options& options = parts.word_piece->options();
  const bool is_marked = options.begin_mark == kSpaceMark && options.continue_mark.empty();
  std::vector<std::string> texts;
  for (const VocabularyEntry& entry : parts.vocabulary.entries()) {
    const std::string& text = entry.text;
    const bool continues =
        text.size() > options.continue_mark.size() && text.starts_with(options.continue_mark);
    if (is_marked || entry.kind != TokenKind::kNormal) {
      texts.push_back(text);
    } else if (continues) {
      texts.push_back(text.substr(options.continue_mark.size()));
    } else {
      texts.push_back(std::string(kSpaceMark) + text);
    }
  }
  return texts;
}

void refuse_repeated(const std::vector<std::string>& texts) {
  std::unordered_set<std::string_view> seen;
  for (const std::string& text : texts) {
    if (seen.insert(text).second) continue;
    throw Error(fmt::format("tokenizer: GGUF cannot hold two tokens that it spells '{}'", text));
  }
}

/// What the stages do, if they do no more than SentencePiece.
class SentencePieceStages {
 public:
  explicit SentencePieceStages(const TokenizerParts& parts) {
    for (const NormalizerStep& step : parts.normalizer.steps()) read(step);
    for (const PreTokenizerStep& step : parts.pre_tokenizer.steps()) read(step);
    if (!replaced_) fail("no space becomes U+2581");
  }
  bool prefix = false;
  bool collapse = false;
  std::string charsmap;

 private:
  [[noreturn]] static void fail(std::string_view what) {
    throw Error(fmt::format(
        "tokenizer: GGUF can hold Unigram with SentencePiece's own text stages only: {}", what));
  }

  void read(const NormalizerStep& step) {
    if (const auto* map = std::get_if<MapCharacters>(&step)) {
      charsmap = map->map.bytes();
    } else if (std::holds_alternative<CollapseSpaces>(step) ||
               std::holds_alternative<StripSpace>(step)) {
      collapse = true;
    } else if (const auto* prepend = std::get_if<PrependText>(&step)) {
      if (prepend->text != kSpaceMark) fail("a text is put in front");
      prefix = true;
    } else if (const auto* replace = std::get_if<ReplaceText>(&step)) {
      read(*replace);
    } else {
      fail("the normalizer does more");
    }
  }

  void read(const ReplaceText& replace) {
    const std::string& pattern = replace.pattern.source();
    if (!replace.pattern.is_regex() && pattern == " " && replace.by == kSpaceMark) {
      replaced_ = true;
    } else if (replace.pattern.is_regex() && pattern == " {2,}") {
      collapse = true;
    } else {
      fail(fmt::format("'{}' is replaced", pattern));
    }
  }

  void read(const PreTokenizerStep& step) {
    const auto* mark = std::get_if<MarkSpaces>(&step);
    const auto* split = std::get_if<SplitText>(&step);
    if (mark != nullptr && mark->replacement == kSpaceMark) {
      replaced_ = true;
      prefix = mark->prepend != MarkSpaces::Prepend::kNever;
    } else if (split != nullptr && split->behavior == SplitBehavior::kRemoved && !split->invert &&
               split->pattern.source() == "\\s") {
      collapse = true;
    } else {
      fail("the pre-tokenizer does more");
    }
  }

  bool replaced_ = false;
};

void set_bytes(Metadata& metadata, const char* key, const std::string& bytes) {
  std::vector<int64_t> values;
  values.reserve(bytes.size());
  for (const char byte : bytes) values.push_back(static_cast<uint8_t>(byte));
  metadata.set(key, {ValueType::kArray, MetadataArray{ValueType::kUint8, std::move(values)}});
}

}  // namespace

void write_word_piece(const TokenizerParts& parts, Metadata& metadata) {
  const BertText& text = bert_text_of(parts);
  std::vector<std::string> texts = marked_texts(parts);
  refuse_repeated(texts);
  metadata.set_string("tokenizer.ggml.model", "bert");
  metadata.set_string("tokenizer.ggml.pre", parts.gguf_pre.empty() ? "default" : parts.gguf_pre);
  metadata.set_strings("tokenizer.ggml.tokens", std::move(texts));
  write_kinds(parts, metadata);
  // Lower case without accents is what older readers, which know no such keys, do.
  if (!text.lowercase) metadata.set_bool("tokenizer.ggml.normalizer.lowercase", false);
  if (!text.strip_accents) metadata.set_bool("tokenizer.ggml.normalizer.strip_accents", false);
  if (parts.eos) metadata.set_uint32("tokenizer.ggml.seperator_token_id", *parts.eos);
  if (parts.bos) metadata.set_uint32("tokenizer.ggml.cls_token_id", *parts.bos);
}

void write_unigram(const TokenizerParts& parts, Metadata& metadata) {
  if (parts.unigram->options().byte_fallback) {
    throw Error("tokenizer: GGUF cannot hold Unigram with byte_fallback");
  }
  const SentencePieceStages stages(parts);
  metadata.set_string("tokenizer.ggml.model", "t5");
  metadata.set_string("tokenizer.ggml.pre", "default");
  std::vector<std::string> texts;
  std::vector<double> scores;
  for (const VocabularyEntry& entry : parts.vocabulary.entries()) {
    texts.push_back(entry.text);
    scores.push_back(entry.score);
  }
  metadata.set_strings("tokenizer.ggml.tokens", std::move(texts));
  metadata.set_floats("tokenizer.ggml.scores", std::move(scores));
  write_kinds(parts, metadata);
  metadata.set_bool("tokenizer.ggml.add_space_prefix", stages.prefix);
  metadata.set_bool("tokenizer.ggml.remove_extra_whitespaces", stages.collapse);
  if (!stages.charsmap.empty()) {
    set_bytes(metadata, "tokenizer.ggml.precompiled_charsmap", stages.charsmap);
  }
}

}  // namespace fewbits
