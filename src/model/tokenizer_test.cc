#include "model/tokenizer.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "base/error.h"
#include "base/source_dir.h"
#include "files/gguf.h"
#include "model/tokenizers/utf8.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Special = Tokenizer::Special;

const fs::path kSource = source_dir();

std::string read_text(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A folder with a tokenizer, a .gguf file, a .model, or a golden file that holds the tokenizer.
Tokenizer open_tokenizer(const fs::path& path) {
  if (path.extension() == ".gguf")
    return Tokenizer::from_gguf(open_gguf(path).metadata(), path.string());
  if (path.extension() == ".model") {
    return Tokenizer::from_sentence_piece(read_text(path), Json(), path.string());
  }
  if (!is_directory(path)) {
    return Tokenizer::from_json(read_json_file(path).at("tokenizer"), Json(), path.string());
  }
  const fs::path config = path / "tokenizer_config.json";
  return Tokenizer::from_folder(path, exists(config) ? read_json_file(config) : Json());
}

/// Each byte that is not UTF-8 as U+FFFD: what `tokenizers`, which only has whole texts, decodes
/// to.
std::string readable(const std::string& text) {
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace))
      .get<std::string>();
}

void expect_cases(const Tokenizer& tokenizer, const Json& cases) {
  int64_t wrong = 0;
  for (const Json& next : cases) {
    const auto text = next.at("text").get<std::string>();
    const auto ids = next.at("ids").get<std::vector<Token>>();
    const auto with_special = tokenizer.encode_with_bos(text, Special::kParse);
    const auto parsed = next.value("parsed", ids);
    const auto decoded = readable(tokenizer.decode(ids));
    const auto wanted = next.value("decoded", decoded);  // not every peer decodes alike
    if (tokenizer.encode(text) == ids && with_special == parsed && decoded == wanted) continue;
    if (++wrong > 3) continue;
    EXPECT_THAT(tokenizer.encode(text), ::testing::ElementsAreArray(ids)) << next.at("text");
    EXPECT_THAT(with_special, ::testing::ElementsAreArray(parsed)) << next.at("text");
    EXPECT_EQ(decoded, wanted);
  }
  EXPECT_EQ(wrong, 0) << "of " << cases.size();
}

class TokenizerGolden : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path path() const {
    return kSource / "tests/golden/tokenizers" / (GetParam() + std::string(".json"));
  }
};

TEST_P(TokenizerGolden, EqualsTokenizers) {
  const Json golden = read_json_file(path());
  expect_cases(Tokenizer::from_json(golden.at("tokenizer"), Json(), GetParam()),
               golden.at("cases"));
}

TEST_P(TokenizerGolden, IsTheSameThroughGguf) {
  const Json golden = read_json_file(path());
  const auto tokenizer = Tokenizer::from_json(golden.at("tokenizer"), Json(), GetParam());
  Metadata metadata;
  if (GetParam() == std::string("everything")) {
    EXPECT_THROW(tokenizer.write_gguf(metadata), Error);
    return;
  }
  tokenizer.write_gguf(metadata);
  const auto back = Tokenizer::from_gguf(metadata, "written");
  expect_cases(back, golden.at("cases"));
  EXPECT_EQ(back.bos(), tokenizer.bos());
  EXPECT_EQ(back.eos(), tokenizer.eos());
  EXPECT_EQ(back.adds_bos(), tokenizer.adds_bos());
  Metadata again;
  back.write_gguf(again);
  EXPECT_EQ(*again.strings("tokenizer.ggml.tokens"), *metadata.strings("tokenizer.ggml.tokens"));
  EXPECT_EQ(again.string("tokenizer.ggml.pre"), metadata.string("tokenizer.ggml.pre"));
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden,
                         ::testing::Values("everything", "gpt2", "llama3", "sentence_piece",
                                           "unigram", "word_piece"),
                         [](const auto& info) { return std::string(info.param); });

/// FEWBITS_TOKENIZER_CASES: a file {"model": path, "cases": [...]} that tests/interop writes.
TEST(TokenizerInterop, EqualsTokenizers) {
  const char* path = std::getenv("FEWBITS_TOKENIZER_CASES");
  if (path == nullptr) GTEST_SKIP() << "FEWBITS_TOKENIZER_CASES is not set: tests/interop sets it";
  const Json json = read_json_file(path);
  expect_cases(open_tokenizer(json.at("model").get<std::string>()), json.at("cases"));
}

/// llama.cpp's own cases: texts in .inp, apart by a marker line, and one line of ids each in .out.
void expect_llama_cases(const fs::path& vocabulary, const fs::path& cases) {
  const auto tokenizer = open_tokenizer(vocabulary);
  constexpr std::string_view marker = "\n__ggml_vocab_test__\n";
  const std::string texts = read_text(cases.string() + ".inp");
  std::ifstream lines(cases.string() + ".out");
  size_t begin = 0;
  int64_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    std::istringstream numbers(line);
    const std::vector<Token> want{std::istream_iterator<Token>(numbers), {}};
    const size_t end = std::min(texts.find(marker, begin), texts.size());
    EXPECT_EQ(tokenizer.encode(texts.substr(begin, end - begin)), want) << "case " << count;
    begin = end + marker.size();
  }
  EXPECT_GE(count, 40);
}

class LlamaGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaGolden, EqualsLlamaCpp) {
  const std::string file = fmt::format("ggml-vocab-{}.gguf", GetParam());
  const fs::path shared = kSource / "../shared/data/tokenizer-golden";
  if (!exists(shared)) GTEST_SKIP() << shared << " is missing";
  fs::path vocabulary = shared / file;
  if (!exists(vocabulary)) {
    const char* peers = std::getenv("FEWBITS_PEERS_DIR");
    vocabulary = peers == nullptr ? fs::path() : fs::path(peers) / "models" / file;
    if (!exists(vocabulary)) GTEST_SKIP() << file << " is not in FEWBITS_PEERS_DIR/models";
  }
  const bool own_cases = exists(fs::path(vocabulary.string() + ".inp"));
  expect_llama_cases(vocabulary, own_cases ? vocabulary : shared / file);
}

INSTANTIATE_TEST_SUITE_P(All, LlamaGolden,
                         ::testing::Values("bert-bge", "deepseek-coder", "deepseek-llm", "gpt-2",
                                           "llama-bpe", "llama-spm", "qwen2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Tokenizer, Stories260K) {
  const auto folder = kSource / "../shared/data/stories260k-f32";
  if (!exists(folder)) GTEST_SKIP() << folder << " is missing";
  const auto tokenizer = open_tokenizer(folder);
  const auto tokens = tokenizer.encode_with_bos("Once upon a time");
  EXPECT_THAT(tokens, ElementsAre(1, 403, 407, 261, 378));
  EXPECT_EQ(tokenizer.decode(tokens), "Once upon a time");
  EXPECT_EQ(tokenizer.piece(378), " time");
  EXPECT_TRUE(tokenizer.ends_generation(2));
  EXPECT_EQ(tokenizer.piece(1), "");
  EXPECT_EQ(tokenizer.piece(1, /*show_special=*/true), "<s>");
}

Json golden_tokenizer(const char* name) {
  return read_json_file(kSource / "tests/golden/tokenizers" / (name + std::string(".json")))
      .at("tokenizer");
}

TEST(Tokenizer, ConfigNamesSpecialTokensAndOverridesTheTemplate) {
  const Json json = golden_tokenizer("sentence_piece");
  const auto config = parse_json(R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>",
      "add_bos_token": false, "add_eos_token": true})",
                                 "config");
  const auto tokenizer = Tokenizer::from_json(json, config, "test");
  EXPECT_EQ(tokenizer.bos(), 1);
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_FALSE(tokenizer.adds_bos());
  EXPECT_THAT(tokenizer.encode_with_bos(""), ElementsAre(2));
  EXPECT_TRUE(Tokenizer::from_json(json, Json(), "test").adds_bos());
}

TEST(Tokenizer, EndsOfTurnAreKnownByName) {
  const auto tokenizer = Tokenizer::from_json(golden_tokenizer("gpt2"), Json(), "test");
  EXPECT_TRUE(tokenizer.ends_generation(tokenizer.find("<|im_end|>").value()));
  EXPECT_TRUE(tokenizer.ends_generation(tokenizer.find("<|endoftext|>").value()));
  EXPECT_FALSE(tokenizer.ends_generation(tokenizer.find("<|im_start|>").value()));
}

TEST(Tokenizer, InvalidBytesAreKeptOrReplaced) {
  const auto bytes = Tokenizer::from_json(golden_tokenizer("sentence_piece"), Json(), "test");
  EXPECT_EQ(bytes.decode(bytes.encode("a\xFF\xE2\x82z")), "a\xFF\xE2\x82z");
  const auto text = Tokenizer::from_json(golden_tokenizer("llama3"), Json(), "test");
  EXPECT_EQ(text.decode(text.encode("a\xFF\xE2\x82z")), "a\uFFFD\uFFFD\uFFFDz");
}

TEST(Tokenizer, WhatByteLevelEncodesComesBack) {
  const auto tokenizer = Tokenizer::from_json(golden_tokenizer("llama3"), Json(), "test");
  EXPECT_TRUE(rc::check([&](const std::string& text) {
    RC_ASSERT(tokenizer.decode(tokenizer.encode(text)) == replace_invalid_utf8(text));
  }));
}

TEST(Tokenizer, NumbersThatAreNoTokens) {
  const auto tokenizer = Tokenizer::from_json(golden_tokenizer("gpt2"), Json(), "test");
  const auto beyond = static_cast<Token>(tokenizer.size());
  for (const Token token : {-1, beyond, INT32_MAX}) {
    EXPECT_EQ(tokenizer.piece(token), "");
    EXPECT_EQ(tokenizer.text(token), "");
    EXPECT_FALSE(tokenizer.is_control(token));
    EXPECT_FALSE(tokenizer.ends_generation(token));
  }
}

std::string refusal(Json json) {
  try {
    const auto tokenizer = Tokenizer::from_json(json, Json(), "file");
    Metadata metadata;
    tokenizer.write_gguf(metadata);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Tokenizer, RefusesWhatItDoesNotKnowByName) {
  const auto with = [](const char* key, const char* value) {
    Json json = golden_tokenizer("gpt2");
    json[key] = parse_json(value, "test");
    return refusal(json);
  };
  EXPECT_THAT(with("normalizer", R"({"type":"Nmt"})"), HasSubstr("normalizer 'Nmt'"));
  EXPECT_THAT(with("pre_tokenizer", R"({"type":"UnicodeScripts"})"), HasSubstr("'UnicodeScripts'"));
  EXPECT_THAT(with("decoder", R"({"type":"CTC"})"), HasSubstr("decoder 'CTC'"));
  EXPECT_THAT(with("post_processor", R"({"type":"Bert"})"), HasSubstr("post-processor 'Bert'"));
  EXPECT_THAT(with("model", R"({"type":"WordLevel"})"), HasSubstr("model 'WordLevel'"));
  EXPECT_THAT(with("model", R"({"type":"Unigram"})"), HasSubstr("no 'vocab' as Unigram has it"));
  EXPECT_THAT(with("model", "null"), HasSubstr("'model' is missing"));
  EXPECT_THAT(with("model", R"({"vocab":{"a":70000},"merges":[]})"), HasSubstr("id 70000"));
  EXPECT_THAT(with("model", R"({"vocab":{"a":9},"merges":["a"]})"), HasSubstr("merge 0"));
  EXPECT_THAT(with("added_tokens", R"([{"id":5,"content":"z"}])"), HasSubstr("id 5 is both"));
  EXPECT_THAT(with("pre_tokenizer", R"({"type":"Sequence","pretokenizers":[
      {"type":"Digits"},{"type":"ByteLevel","add_prefix_space":false}]})"),
              HasSubstr("no name for the pre-tokenizer"));
  EXPECT_EQ(refusal(golden_tokenizer("gpt2")), "");
}

Metadata small_gguf() {
  Metadata metadata;
  metadata.set_string("tokenizer.ggml.model", "llama");
  metadata.set_strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "\u2581", "a", "\u2581a"});
  metadata.set_int32s("tokenizer.ggml.token_type", {2, 3, 3, 1, 1, 1});
  metadata.set_floats("tokenizer.ggml.scores", {0, 0, 0, -1, -2, -3});
  return metadata;
}

std::string gguf_refusal(const Metadata& metadata) {
  try {
    Tokenizer::from_gguf(metadata, "file");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Tokenizer, GgufDefaultsAreLlamaCpps) {
  Metadata metadata = small_gguf();
  const auto tokenizer = Tokenizer::from_gguf(metadata, "test");
  EXPECT_THAT(tokenizer.encode_with_bos("a a"), ElementsAre(1, 5, 5));
  EXPECT_THAT(tokenizer.encode("ax"), ElementsAre(5, 0));
  EXPECT_THAT(tokenizer.encode("a</s>a", Special::kParse), ElementsAre(5, 2, 5));
  EXPECT_EQ(tokenizer.eos(), 2);
  EXPECT_TRUE(tokenizer.adds_bos());
  metadata.set_bool("tokenizer.ggml.add_space_prefix", false);
  metadata.set_bool("tokenizer.ggml.add_bos_token", false);
  metadata.set_uint32("tokenizer.ggml.eot_token_id", 4);
  const auto plain = Tokenizer::from_gguf(metadata, "test");
  EXPECT_THAT(plain.encode_with_bos("a a"), ElementsAre(4, 5));
  EXPECT_TRUE(plain.ends_generation(4));
}

TEST(Tokenizer, RefusesBrokenGguf) {
  EXPECT_THAT(gguf_refusal(Metadata()), HasSubstr("tokenizer.ggml.model is missing"));
  Metadata metadata = small_gguf();
  metadata.set_string("tokenizer.ggml.model", "rwkv");
  EXPECT_THAT(gguf_refusal(metadata),
              HasSubstr("'rwkv' is not supported; known: bert, gpt2, llama, t5"));
  metadata.set_string("tokenizer.ggml.model", "gpt2");
  EXPECT_THAT(gguf_refusal(metadata), HasSubstr("tokenizer.ggml.merges is missing"));
  metadata.set_strings("tokenizer.ggml.merges", {"a"});
  EXPECT_THAT(gguf_refusal(metadata), HasSubstr("merge 0 is no pair"));
  metadata.set_string("tokenizer.ggml.pre", "gpt-22");
  EXPECT_THAT(gguf_refusal(metadata), HasSubstr("did you mean 'gpt-2'"));
  metadata = small_gguf();
  metadata.set_floats("tokenizer.ggml.scores", {0});
  EXPECT_THAT(gguf_refusal(metadata), HasSubstr("must have 6 numbers"));
  metadata.erase("tokenizer.ggml.tokens");
  EXPECT_THAT(gguf_refusal(metadata), HasSubstr("tokenizer.ggml.tokens is missing"));
}

}  // namespace
}  // namespace fewbits
