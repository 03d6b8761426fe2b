#include "model/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text_view.h"
#include "model/tokenizers/parts.h"
#include "model/tokenizers/sentence_piece.h"

namespace fewbits {
namespace {

// Positions inside a word are 32 bits.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

void encode_stretch(const TokenizerParts& parts, std::string_view text, bool find_special,
                    bool at_start, std::vector<Token>& tokens) {
  const std::string normalized = parts.normalizer.apply(std::string(text));
  for (const TextSegment& segment : parts.normalized_tokens.split(normalized, find_special)) {
    if (segment.token >= 0) {
      tokens.push_back(segment.token);
      continue;
    }
    const bool first = at_start && segment.range.begin == 0;
    const Words words =
        parts.pre_tokenizer.apply(std::string(slice(normalized, segment.range)), first);
    parts.model->encode(words, tokens);
  }
}

bool is_hidden(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown;
}

std::string piece_of(const TokenizerParts& parts, Token token, bool show_special, bool first) {
  if (!parts.vocabulary.has(token)) return {};  // padded embeddings have rows without a token
  const VocabularyEntry& entry = parts.vocabulary[token];
  if (is_hidden(entry.kind)) return show_special ? entry.text : std::string();
  // Added text is not spelled in GPT-2's alphabet.
  const bool plain = entry.kind == TokenKind::kUserDefined && parts.pre_tokenizer.byte_level();
  return plain ? entry.text : parts.decoder.piece(entry.text, first);
}

}  // namespace

struct Tokenizer::Impl {
  std::unique_ptr<const TokenizerParts> parts;
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(const Json& tokenizer, const Json& config, std::string_view where) {
  auto impl = std::make_unique<Impl>();
  impl->parts = tokenizer_from_json(tokenizer, config, where);
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_sentence_piece(std::string_view bytes, const Json& config,
                                         std::string_view where) {
  auto impl = std::make_unique<Impl>();
  impl->parts = tokenizer_from_sentence_piece(bytes, config, where);
  return Tokenizer(std::move(impl));
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder, const Json& config) {
  if (const auto file = folder / "tokenizer.json"; std::filesystem::is_regular_file(file)) {
    return from_json(read_json_file(file), config, file.string());
  }
  for (const char* name : {"tokenizer.model", "spiece.model"}) {
    const auto path = folder / name;
    if (!std::filesystem::is_regular_file(path)) continue;
    const MappedFile file = MappedFile::open(path);
    return from_sentence_piece(text_view(file.bytes()), config, path.string());
  }
  throw Error(fmt::format(
      "{}: has no tokenizer.json or tokenizer.model; save the tokenizer next to the weights",
      folder.string()));
}

Tokenizer Tokenizer::from_gguf(const Metadata& metadata, std::string_view where) {
  auto impl = std::make_unique<Impl>();
  impl->parts = tokenizer_from_gguf(metadata, where);
  return Tokenizer(std::move(impl));
}

std::vector<Token> Tokenizer::encode(std::string_view text, Special special) const {
  if (text.size() > kMaxTextBytes) {
    throw Error(fmt::format("tokenizer: a text of {} bytes; at most {} at once", text.size(),
                            kMaxTextBytes));
  }
  const TokenizerParts& parts = *impl_->parts;
  std::string valid;
  if (!parts.keeps_invalid_bytes && !is_valid_utf8(text)) text = valid = replace_invalid_utf8(text);
  const bool find_special = special == Special::kParse;
  std::vector<Token> tokens;
  for (const TextSegment& segment : parts.raw_tokens.split(text, find_special)) {
    if (segment.token >= 0) {
      tokens.push_back(segment.token);
    } else {
      encode_stretch(parts, slice(text, segment.range), find_special, segment.range.begin == 0,
                     tokens);
    }
  }
  return tokens;
}

std::vector<Token> Tokenizer::encode_with_bos(std::string_view text, Special special) const {
  const TokenizerParts& parts = *impl_->parts;
  std::vector<Token> tokens = encode(text, special);
  tokens.insert(tokens.begin(), parts.prefix.begin(), parts.prefix.end());
  tokens.insert(tokens.end(), parts.suffix.begin(), parts.suffix.end());
  return tokens;
}

std::string Tokenizer::piece(Token token, bool show_special) const {
  return piece_of(*impl_->parts, token, show_special, /*first=*/false);
}

std::string Tokenizer::decode(std::span<const Token> tokens, bool show_special) const {
  const TokenizerParts& parts = *impl_->parts;
  std::string text;
  bool first = true;
  for (const Token token : tokens) {
    if (is_control(token) && !show_special) continue;
    text += piece_of(parts, token, show_special, first);
    first = false;
  }
  return parts.decoder.finish(std::move(text));
}

int64_t Tokenizer::size() const {
  return impl_->parts->vocabulary.size();
}
std::optional<Token> Tokenizer::bos() const {
  return impl_->parts->bos;
}
std::optional<Token> Tokenizer::eos() const {
  return impl_->parts->eos;
}
bool Tokenizer::adds_bos() const {
  return !impl_->parts->prefix.empty();
}
bool Tokenizer::adds_eos() const {
  return !impl_->parts->suffix.empty();
}

bool Tokenizer::ends_generation(Token token) const {
  return std::ranges::binary_search(impl_->parts->end_tokens, token);
}

bool Tokenizer::is_control(Token token) const {
  const Vocabulary& vocabulary = impl_->parts->vocabulary;
  return vocabulary.has(token) && is_hidden(vocabulary[token].kind);
}

std::optional<Token> Tokenizer::find(std::string_view token_text) const {
  return impl_->parts->vocabulary.find(token_text);
}

std::string_view Tokenizer::text(Token token) const {
  const Vocabulary& vocabulary = impl_->parts->vocabulary;
  return vocabulary.has(token) ? std::string_view(vocabulary[token].text) : std::string_view();
}

void Tokenizer::write_gguf(Metadata& metadata) const {
  tokenizer_to_gguf(*impl_->parts, metadata);
}

}  // namespace fewbits
