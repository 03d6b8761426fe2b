// Any bytes as a tokenizer and as its text: tokens or an Error. The first line is a tokenizer.json,
// "sp" and a tokenizer.model in hexadecimal, or what stands for GGUF's metadata; all that follows
// is text to encode and, as numbers, to decode.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "model/tokenizer.h"

namespace fewbits {
namespace {

constexpr size_t kMaxBytes = 20'000;  // keeps a run short: some expressions are slow on long texts

std::vector<std::string> fields(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// "llama", "gpt2", "bert" or "t5" TAB pre TAB tokens TAB merges, the lists separated by \x01. For
/// "t5" the merges are the charsmap's bytes. A token's kind and
/// score come from its first byte, which is not part of it.
Metadata metadata_of(std::string_view line) {
  auto columns = fields(line, '\t');
  columns.resize(4);
  std::vector<std::string> texts;
  std::vector<int64_t> kinds;
  std::vector<double> scores;
  for (const std::string& token : fields(columns[2], '\x01')) {
    const auto first = token.empty() ? 1u : static_cast<unsigned char>(token[0]);
    texts.push_back(token.empty() ? token : token.substr(1));
    kinds.push_back(first % 8);
    scores.push_back(-static_cast<double>(first / 8));
  }
  Metadata metadata;
  metadata.set_string("tokenizer.ggml.model", columns[0]);
  metadata.set_string("tokenizer.ggml.pre", columns[1]);
  metadata.set_strings("tokenizer.ggml.tokens", std::move(texts));
  metadata.set_int32s("tokenizer.ggml.token_type", std::move(kinds));
  metadata.set_floats("tokenizer.ggml.scores", std::move(scores));
  metadata.set_strings("tokenizer.ggml.merges", fields(columns[3], '\x01'));
  if (columns[0] == "t5") {
    std::vector<int64_t> charsmap;
    for (const char byte : columns[3]) charsmap.push_back(static_cast<uint8_t>(byte));
    metadata.set_int32s("tokenizer.ggml.precompiled_charsmap", std::move(charsmap));
  }
  return metadata;
}

std::string from_hex(std::string_view text) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; };
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) {
    bytes += static_cast<char>((digit(text[i]) << 4 | (digit(text[i + 1]) & 15)) & 0xFF);
  }
  return bytes;
}

Tokenizer open(std::string_view line) {
  if (line.starts_with("sp ")) {
    return Tokenizer::from_sentence_piece(from_hex(line.substr(3)), Json(), "fuzz");
  }
  if (line.starts_with('{')) return Tokenizer::from_json(parse_json(line, "fuzz"), Json(), "fuzz");
  return Tokenizer::from_gguf(metadata_of(line), "fuzz");
}

/// What fewbits wrote, it must be able to read.
void read_back(const Metadata& metadata, std::string_view text) {
  try {
    Tokenizer::from_gguf(metadata, "written").encode(text);
  } catch (const Error&) {
    std::abort();
  }
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  for (const auto special : {Tokenizer::Special::kAsText, Tokenizer::Special::kParse}) {
    const auto tokens = tokenizer.encode_with_bos(text, special);
    for (const Token token : tokens) {
      if (token < 0 || token >= tokenizer.size()) std::abort();
    }
    tokenizer.decode(tokens, special == Tokenizer::Special::kParse);
  }
  std::vector<Token> tokens;
  for (const char c : text) tokens.push_back(c);
  tokenizer.decode(tokens);
  Metadata metadata;
  tokenizer.write_gguf(metadata);
  read_back(metadata, text);
}

}  // namespace
}  // namespace fewbits

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > fewbits::kMaxBytes) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t line = std::min(input.find('\n'), input.size());
  try {
    const auto tokenizer = fewbits::open(input.substr(0, line));
    fewbits::use(tokenizer, input.substr(std::min(line + 1, input.size())));
  } catch (const fewbits::Error&) {
  }
  return 0;
}
