#include "model/tokenizers/decoder.h"

#include "model/tokenizers/byte_level.h"
#include "model/tokenizers/json_parts.h"
#include "model/tokenizers/vocabulary.h"

namespace fewbits {
namespace {

/// What is taken back, in this order: the list of the original.
constexpr std::pair<std::string_view, std::string_view> kCleanUp[] = {
    {" .", "."},   {" ?", "?"},     {" !", "!"},     {" ,", ","},
    {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},   {" do not", " don't"},
    {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
};

std::string apply_step(DecodeByteLevel, std::string text, bool) {
  auto bytes = bytes_from_spelling(text);
  return bytes ? std::move(*bytes) : text;
}

std::string apply_step(DecodeByteFallback, std::string text, bool) {
  const auto byte = byte_of_token(text);
  return byte ? std::string(1, static_cast<char>(*byte)) : text;
}

std::string apply_step(const DecodeReplace& step, std::string text, bool) {
  // A token may hold half a character; expressions need whole ones.
  if (step.pattern.is_regex() && !is_valid_utf8(text)) return text;
  return replace_matches(text, step.pattern, step.by);
}

std::string apply_step(const DecodeMarks& step, std::string text, bool first) {
  return replace_matches(text, TextPattern::literal(step.mark),
                         first && step.drop_first ? "" : " ");
}

std::string apply_step(const DecodeStrip& step, std::string text, bool) {
  if (step.character.empty()) return text;
  std::string_view rest = text;
  for (int64_t i = 0; i < step.front && rest.starts_with(step.character); ++i) {
    rest.remove_prefix(step.character.size());
  }
  for (int64_t i = 0; i < step.end && rest.ends_with(step.character); ++i) {
    rest.remove_suffix(step.character.size());
  }
  return std::string(rest);
}

std::string apply_step(const DecodeWordPiece& step, std::string text, bool first) {
  if (first) return text;
  return text.starts_with(step.mark) ? text.substr(step.mark.size()) : " " + text;
}

std::string apply_step(DecodeCleanUp, std::string text, bool) {
  for (const auto& [from, to] : kCleanUp) {
    text = replace_matches(text, TextPattern::literal(std::string(from)), to);
  }
  return text;
}

DecodeMarks marks_from_json(const Json& json, std::string_view where) {
  const bool legacy = json_bool_or(json, "add_prefix_space", true, where);
  const std::string scheme =
      json_string_or(json, "prepend_scheme", legacy ? "always" : "never", where);
  return {json_string_or(json, "replacement", "\u2581", where), scheme != "never"};
}

DecoderStep step_from_json(const Json& json, const std::string& type, std::string_view where) {
  if (type == "ByteLevel") return DecodeByteLevel{};
  if (type == "ByteFallback") return DecodeByteFallback{};
  if (type == "Metaspace") return marks_from_json(json, where);
  if (type == "WordPiece") return DecodeWordPiece{json_string_or(json, "prefix", "##", where)};
  if (type == "Replace") {
    return DecodeReplace{pattern_from_json(json, "pattern", where),
                         json_string(json, "content", where)};
  }
  if (type == "Strip") {
    return DecodeStrip{json_string(json, "content", where),
                       json_integer_or(json, "start", 0, where),
                       json_integer_or(json, "stop", 0, where)};
  }
  unknown_part("decoder", type,
               {"ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Sequence", "Strip",
                "WordPiece"},
               where);
}

std::string apply_all(const std::vector<DecoderStep>& steps, std::string text, bool first) {
  for (const DecoderStep& step : steps) {
    text = std::visit([&](const auto& kind) { return apply_step(kind, std::move(text), first); },
                      step);
  }
  return text;
}

}  // namespace

Decoder Decoder::from_json(const Json& json, std::string_view where) {
  std::vector<DecoderStep> token_steps;
  std::vector<DecoderStep> text_steps;
  bool fused = false;  // behind Fuse there is one text instead of tokens
  for (const Json* step : flatten_sequence(json, "decoders", where)) {
    const std::string type = json_string(*step, "type", where);
    if (type == "Fuse") {
      fused = true;
      continue;
    }
    // Only Strip tells one text from many; the rest must reach the single piece too.
    auto& steps = fused && type == "Strip" ? text_steps : token_steps;
    steps.push_back(step_from_json(*step, type, where));
    if (type == "WordPiece" && json_bool_or(*step, "cleanup", true, where)) {
      steps.emplace_back(DecodeCleanUp{});
    }
  }
  return Decoder(std::move(token_steps), std::move(text_steps));
}

std::string Decoder::piece(std::string token_text, bool first) const {
  return apply_all(token_steps_, std::move(token_text), first);
}

std::string Decoder::finish(std::string text) const {
  return apply_all(text_steps_, std::move(text), true);
}

}  // namespace fewbits
