#include "model/tokenizers/to_gguf.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "model/tokenizers/parts.h"
#include "model/tokenizers/pre_names.h"

// The way out to GGUF. Its tokenizers are fewer than Hugging Face's: "gpt2", byte-level BPE whose
// pre-tokenizer is a name, "llama", SentencePiece's BPE with scores instead of merges, and those of
// to_gguf.h. What is none of them is refused, because a file that gives other tokens is worse than
// none.
namespace fewbits {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

std::string describe(const PreTokenizer& pre_tokenizer) {
  std::vector<std::string> steps;
  for (const PreTokenizerStep& step : pre_tokenizer.steps()) {
    if (const auto* split = std::get_if<SplitText>(&step)) {
      steps.push_back(fmt::format("Split '{}'", split->pattern.source()));
    } else if (std::holds_alternative<SplitBert>(step)) {
      steps.emplace_back("BertPreTokenizer");
    } else {
      steps.emplace_back(std::holds_alternative<PrefixSpace>(step) ? "prefix space" : "Metaspace");
    }
  }
  return steps.empty() ? "none" : join(steps, " then ");
}

/// The expressions of a pre-tokenizer that only splits; nothing where it does more.
std::optional<std::vector<std::string>> expressions_of(const PreTokenizer& pre_tokenizer) {
  std::vector<std::string> expressions;
  for (const PreTokenizerStep& step : pre_tokenizer.steps()) {
    const auto* split = std::get_if<SplitText>(&step);
    const bool plain = split != nullptr && split->pattern.is_regex() && !split->invert &&
                       split->behavior == SplitBehavior::kIsolated;
    if (!plain) return std::nullopt;
    expressions.push_back(split->pattern.source());
  }
  return expressions;
}

std::string pre_name_of(const TokenizerParts& parts) {
  if (!parts.gguf_pre.empty()) return parts.gguf_pre;
  const auto expressions = expressions_of(parts.pre_tokenizer);
  const bool ignore_merges = parts.bpe->options().ignore_merges;
  const PreName* name = expressions ? name_of_expressions(*expressions, ignore_merges) : nullptr;
  if (name != nullptr) return std::string(name->name);
  std::vector<std::string> known;
  for (const PreName& candidate : pre_names()) known.emplace_back(candidate.name);
  throw Error(fmt::format(
      "tokenizer: GGUF has no name for the pre-tokenizer {} (ignore_merges {}); known: {}",
      describe(parts.pre_tokenizer), ignore_merges, join(known)));
}

/// Byte-level tokenizers have no normalizer in GGUF. NFC may be missing all the same: nearly all
/// text is in that form already, and the models that ask for it are converted without it
/// everywhere.
void check_normalizer(const Normalizer& normalizer) {
  for (const NormalizerStep& step : normalizer.steps()) {
    const auto* form = std::get_if<UnicodeForm>(&step);
    if (form == nullptr || !form->compose || form->compatible) {
      throw Error(
          "tokenizer: GGUF cannot hold this normalizer for byte-level BPE; known: none, NFC");
    }
  }
}

std::vector<std::string> merges_of(const TokenizerParts& parts) {
  std::vector<std::string> merges;
  for (const MergeTable::Entry& merge : parts.bpe->merges().entries()) {
    const std::string& left = parts.vocabulary[merge.left].text;
    merges.push_back(left + ' ' + parts.vocabulary[merge.right].text);
    if (merges.back().find(' ', 1) != left.size()) {
      throw Error(
          fmt::format("tokenizer: GGUF cannot hold the merge of '{}', which has a space", left));
    }
  }
  return merges;
}

/// How a tokenizer treats spaces, when it does what SentencePiece does.
struct SpaceMarks {
  bool replaced = false;
  bool prefixed = false;
};

void read_marks(const NormalizerStep& step, SpaceMarks& marks) {
  if (const auto* replace = std::get_if<ReplaceText>(&step)) {
    if (!replace->pattern.is_regex() && replace->pattern.source() == " " &&
        replace->by == kSpaceMark) {
      marks.replaced = true;
      return;
    }
  } else if (const auto* prepend = std::get_if<PrependText>(&step)) {
    if (prepend->text == kSpaceMark) {
      marks.prefixed = true;
      return;
    }
  }
  throw Error(
      "tokenizer: GGUF cannot hold this normalizer; known: space to U+2581, and U+2581 in front");
}

void read_marks(const PreTokenizerStep& step, const PreTokenizer& pre_tokenizer,
                SpaceMarks& marks) {
  if (const auto* mark = std::get_if<MarkSpaces>(&step); mark && mark->replacement == kSpaceMark) {
    marks.replaced = true;
    marks.prefixed = mark->prepend != MarkSpaces::Prepend::kNever;
    return;
  }
  // Where spaces are marks already, a split at spaces does nothing.
  const auto* split = std::get_if<SplitText>(&step);
  if (split && marks.replaced && !split->pattern.is_regex() && split->pattern.source() == " ")
    return;
  throw Error(
      fmt::format("tokenizer: GGUF cannot hold the pre-tokenizer {} without byte level; "
                  "known: Metaspace with U+2581",
                  describe(pre_tokenizer)));
}

SpaceMarks marks_of(const TokenizerParts& parts) {
  SpaceMarks marks;
  for (const NormalizerStep& step : parts.normalizer.steps()) read_marks(step, marks);
  for (const PreTokenizerStep& step : parts.pre_tokenizer.steps()) {
    read_marks(step, parts.pre_tokenizer, marks);
  }
  if (!marks.replaced) {
    throw Error(
        "tokenizer: GGUF can hold byte-level BPE and BPE with U+2581 for spaces; this is neither");
  }
  return marks;
}

/// Scores that make SentencePiece merge in the order of the merge list: a token's score falls with
/// the rank of the first merge that makes it. What no merge makes goes last.
std::vector<VocabularyEntry> scored_entries(const TokenizerParts& parts) {
  std::vector<VocabularyEntry> entries = parts.vocabulary.entries();
  const auto merges = parts.bpe->merges().entries();
  for (VocabularyEntry& entry : entries) entry.score = 0;
  for (const MergeTable::Entry& merge : merges) {
    float& score = entries[static_cast<size_t>(merge.merge.merged)].score;
    if (score == 0) score = -1 - static_cast<float>(merge.merge.rank);
  }
  const float last = -2 - static_cast<float>(merges.size());
  for (VocabularyEntry& entry : entries) {
    if (entry.score == 0 && entry.kind == TokenKind::kNormal) entry.score = last;
  }
  return entries;
}

[[noreturn]] void refuse_merge(const Vocabulary& vocabulary, const MergeTable::Entry& merge) {
  throw Error(fmt::format(
      "tokenizer: GGUF keeps scores instead of merges for BPE without byte level, and no scores "
      "give "
      "these merges (at '{}'): the merge list must be complete and ordered by its results",
      vocabulary[merge.merge.merged].text));
}

/// Throws Error where scores would merge other pairs than the list does, or in another order.
void check_scores(const TokenizerParts& parts, const Vocabulary& scored) {
  const auto by_score = Bpe::from_scores(scored, parts.bpe->options());
  const MergeTable& listed = parts.bpe->merges();
  uint32_t rank = 0;
  for (const MergeTable::Entry& merge : listed.entries()) {
    const Merge* same = by_score->merges().find(merge.left, merge.right);
    if (same == nullptr || same->rank < rank) refuse_merge(scored, merge);
    rank = same->rank;
  }
  for (const MergeTable::Entry& merge : by_score->merges().entries()) {
    const bool normal = scored[merge.merge.merged].kind == TokenKind::kNormal;
    if (normal && listed.find(merge.left, merge.right) == nullptr) refuse_merge(scored, merge);
  }
}

void write_scores(const TokenizerParts& parts, Metadata& metadata) {
  std::vector<VocabularyEntry> entries = parts.vocabulary.entries();
  if (parts.gguf_pre.empty()) {
    const Vocabulary scored(scored_entries(parts), "tokenizer");
    check_scores(parts, scored);
    entries = scored.entries();
  }
  std::vector<double> scores;
  for (const VocabularyEntry& entry : entries) scores.push_back(entry.score);
  metadata.set_floats("tokenizer.ggml.scores", std::move(scores));
}

void write_tokens(const TokenizerParts& parts, Metadata& metadata) {
  std::vector<std::string> texts;
  std::vector<int64_t> kinds;
  for (const VocabularyEntry& entry : parts.vocabulary.entries()) {
    texts.push_back(entry.text);
    kinds.push_back(static_cast<int64_t>(entry.kind));
  }
  if (parts.unknown && !parts.pre_tokenizer.byte_level()) {
    kinds[static_cast<size_t>(*parts.unknown)] = static_cast<int64_t>(TokenKind::kUnknown);
  }
  metadata.set_strings("tokenizer.ggml.tokens", std::move(texts));
  metadata.set_int32s("tokenizer.ggml.token_type", std::move(kinds));
}

void write_special_tokens(const TokenizerParts& parts, Metadata& metadata) {
  const auto write = [&](const char* name, std::optional<Token> token) {
    if (token) metadata.set_uint32(fmt::format("tokenizer.ggml.{}_token_id", name), *token);
  };
  write("bos", parts.bos);
  write("eos", parts.eos);
  write("unknown", parts.unknown);
  write("padding", parts.padding);
  write("mask", parts.mask);
  metadata.set_bool("tokenizer.ggml.add_bos_token", !parts.prefix.empty());
  metadata.set_bool("tokenizer.ggml.add_eos_token", !parts.suffix.empty());
}

}  // namespace

void tokenizer_to_gguf(const TokenizerParts& parts, Metadata& metadata) {
  if (parts.word_piece != nullptr) {
    write_word_piece(parts, metadata);
  } else if (parts.unigram != nullptr) {
    write_unigram(parts, metadata);
  } else if (parts.pre_tokenizer.byte_level()) {
    check_normalizer(parts.normalizer);
    metadata.set_string("tokenizer.ggml.model", "gpt2");
    metadata.set_string("tokenizer.ggml.pre", pre_name_of(parts));
    write_tokens(parts, metadata);
    metadata.set_strings("tokenizer.ggml.merges", merges_of(parts));
  } else {
    const SpaceMarks marks = marks_of(parts);
    metadata.set_string("tokenizer.ggml.model", "llama");
    metadata.set_string("tokenizer.ggml.pre", "default");
    write_tokens(parts, metadata);
    write_scores(parts, metadata);
    metadata.set_bool("tokenizer.ggml.add_space_prefix", marks.prefixed);
  }
  write_special_tokens(parts, metadata);
}

}  // namespace fewbits
