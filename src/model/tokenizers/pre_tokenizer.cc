#include "model/tokenizers/pre_tokenizer.h"

#include <fmt/format.h>

#include "base/error.h"
#include "model/tokenizers/bert_text.h"
#include "model/tokenizers/json_parts.h"
#include "model/tokenizers/unicode_tables.h"

namespace fewbits {

namespace {

using Steps = std::vector<PreTokenizerStep>;

SplitBehavior behavior_from_json(const Json& json, const char* fallback, std::string_view where) {
  const std::string name = json_string_or(json, "behavior", fallback, where);
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  unknown_part("split behavior", name,
               {"Contiguous", "Isolated", "MergedWithNext", "MergedWithPrevious", "Removed"},
               where);
}

MarkSpaces metaspace_from_json(const Json& json, std::string_view where) {
  MarkSpaces step;
  step.replacement = json_string_or(json, "replacement", "\u2581", where);
  step.split = json_bool_or(json, "split", true, where);
  // Files from before prepend_scheme only have a flag.
  const bool legacy = json_bool_or(json, "add_prefix_space", true, where);
  const std::string scheme =
      json_string_or(json, "prepend_scheme", legacy ? "always" : "never", where);
  if (scheme == "always") {
    step.prepend = MarkSpaces::Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = MarkSpaces::Prepend::kFirst;
  } else if (scheme == "never") {
    step.prepend = MarkSpaces::Prepend::kNever;
  } else {
    unknown_part("prepend_scheme", scheme, {"always", "first", "never"}, where);
  }
  return step;
}

void add_byte_level(const Json& json, std::string_view where, Steps& steps) {
  if (json_bool_or(json, "add_prefix_space", true, where)) steps.emplace_back(PrefixSpace{});
  if (json_bool_or(json, "use_regex", true, where)) {
    steps.emplace_back(SplitText{TextPattern::regex(kGpt2Expression, where)});
  }
}

PreTokenizerStep step_from_json(const Json& json, const std::string& type, std::string_view where) {
  const auto regex = [&](std::string_view text) { return TextPattern::regex(text, where); };
  if (type == "Split") {
    return SplitText{pattern_from_json(json, "pattern", where), behavior_from_json(json, "", where),
                     json_bool_or(json, "invert", false, where)};
  }
  if (type == "Digits") {
    const bool individual = json_bool_or(json, "individual_digits", false, where);
    return SplitText{regex("\\p{N}"),
                     individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous};
  }
  if (type == "BertPreTokenizer") return SplitBert{};
  if (type == "Metaspace") return metaspace_from_json(json, where);
  if (type == "Punctuation") {
    return SplitText{regex(punctuation_expression()), behavior_from_json(json, "Isolated", where)};
  }
  if (type == "Whitespace") {
    // Joiners are word characters too where \w is Rust's.
    return SplitText{regex("[\\w\u200C\u200D]+|[^\\w\\s\u200C\u200D]+"), SplitBehavior::kRemoved,
                     true};
  }
  if (type == "WhitespaceSplit") return SplitText{regex("\\s"), SplitBehavior::kRemoved};
  unknown_part("pre-tokenizer", type,
               {"BertPreTokenizer", "ByteLevel", "Digits", "Metaspace", "Punctuation", "Sequence",
                "Split", "Whitespace", "WhitespaceSplit"},
               where);
}

/// One stretch of a word, and whether the pattern found it there.
struct Stretch {
  ByteRange range;
  bool match;
};

void cut(PatternFinder& finder, const Words& words, ByteRange word, bool invert,
         std::vector<Stretch>& stretches) {
  finder.start(slice(words.text, word));
  int64_t done = word.begin;
  const auto add = [&](int64_t begin, int64_t end, bool match) {
    if (begin < end) stretches.push_back({{begin, end}, match != invert});
  };
  while (const auto match = finder.next()) {
    add(done, word.begin + match->begin, false);
    add(word.begin + match->begin, word.begin + match->end, true);
    done = word.begin + match->end;
  }
  add(done, word.end, false);
}

bool joins_previous(const std::vector<Stretch>& stretches, size_t i, SplitBehavior behavior) {
  if (i == 0) return false;
  const bool here = stretches[i].match;
  const bool before = stretches[i - 1].match;
  switch (behavior) {
    case SplitBehavior::kContiguous:
      return here == before;
    case SplitBehavior::kMergedWithPrevious:
      return here && !before;
    case SplitBehavior::kMergedWithNext:
      return before && !here;
    default:
      return false;
  }
}

void apply_step(const SplitText& step, Words& words, bool) {
  std::vector<ByteRange> ranges;
  ranges.reserve(words.ranges.size());
  std::vector<Stretch> stretches;
  PatternFinder finder(step.pattern);
  for (const ByteRange word : words.ranges) {
    stretches.clear();
    cut(finder, words, word, step.invert, stretches);
    for (size_t i = 0; i < stretches.size(); ++i) {
      if (step.behavior == SplitBehavior::kRemoved && stretches[i].match) continue;
      if (joins_previous(stretches, i, step.behavior)) {
        ranges.back().end = stretches[i].range.end;
      } else {
        ranges.push_back(stretches[i].range);
      }
    }
  }
  words.ranges = std::move(ranges);
}

void apply_step(PrefixSpace, Words& words, bool) {
  Words spaced;
  for (const ByteRange word : words.ranges) {
    const auto begin = static_cast<int64_t>(spaced.text.size());
    if (words.text[static_cast<size_t>(word.begin)] != ' ') spaced.text += ' ';
    spaced.text += slice(words.text, word);
    spaced.ranges.push_back({begin, static_cast<int64_t>(spaced.text.size())});
  }
  words = std::move(spaced);
}

/// Appends the text with each space replaced, and a mark in front where one is due.
void append_marked(std::string_view text, const MarkSpaces& step, bool prepend, std::string& out) {
  const bool marked = text.starts_with(' ') || text.starts_with(step.replacement);
  if (prepend && !marked) out += step.replacement;
  for (const char c : text) {
    if (c == ' ') {
      out += step.replacement;
    } else {
      out += c;
    }
  }
}

void apply_step(const MarkSpaces& step, Words& words, bool at_start) {
  using Prepend = MarkSpaces::Prepend;
  Words marked;
  for (const ByteRange word : words.ranges) {
    const bool first = at_start && word.begin == 0;
    const bool prepend =
        step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && first);
    const auto begin = static_cast<int64_t>(marked.text.size());
    append_marked(slice(words.text, word), step, prepend, marked.text);
    marked.ranges.push_back({begin, static_cast<int64_t>(marked.text.size())});
  }
  words = std::move(marked);
  if (!step.split) return;
  apply_step(SplitText{TextPattern::literal(step.replacement), SplitBehavior::kMergedWithNext},
             words, at_start);
}

void apply_step(SplitBert, Words& words, bool) {
  std::vector<ByteRange> ranges;
  ranges.reserve(words.text.size() / 4);
  for (const ByteRange word : words.ranges) split_bert(words.text, word, ranges);
  words.ranges = std::move(ranges);
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const Json& json, std::string_view where) {
  Steps steps;
  bool byte_level = false;
  for (const Json* step : flatten_sequence(json, "pretokenizers", where)) {
    const std::string type = json_string(*step, "type", where);
    if (byte_level) {
      // It would see the spelling of bytes, not the text.
      throw Error(
          fmt::format("{}: pre-tokenizer '{}' behind ByteLevel is not supported", where, type));
    }
    if (type == "ByteLevel") {
      add_byte_level(*step, where, steps);
      byte_level = true;
    } else {
      steps.push_back(step_from_json(*step, type, where));
    }
  }
  return PreTokenizer(std::move(steps), byte_level);
}

Words PreTokenizer::apply(std::string text, bool at_start) const {
  Words words;
  words.text = std::move(text);
  if (!words.text.empty()) words.ranges.push_back({0, static_cast<int64_t>(words.text.size())});
  for (const PreTokenizerStep& step : steps_) {
    std::visit([&](const auto& kind) { apply_step(kind, words, at_start); }, step);
  }
  return words;
}

}  // namespace fewbits
