#pragma once

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "formats/tensor_view.h"
#include "model/architecture.h"
#include "model/config.h"

// For tests, here and in the layers above: a Hugging Face folder with a tiny random Llama in F32,
// whose parts a test changes before it is written.
namespace fewbits {

/// The pattern with its first "{}" replaced.
inline std::string numbered(std::string_view pattern, int64_t number) {
  std::string name(pattern);
  const size_t place = name.find("{}");
  if (place != std::string::npos) name.replace(place, 2, std::to_string(number));
  return name;
}

class TinyCheckpoint {
 public:
  struct Tensor {
    Shape shape;
    std::vector<float> values;
  };

  /// 2 layers, 48 wide, 6 heads of 8 on 2 key/value heads, feed-forward 80, untied; the tokenizer
  /// has 2 tokens fewer than the embedding has rows.
  TinyCheckpoint() {
    std::string name = (std::filesystem::temp_directory_path() / "fewbits-tiny-XXXXXX").string();
    check(::mkdtemp(name.data()) != nullptr);
    folder_ = name;
    tokenizer = make_tokenizer();
    config = {{"model_type", "llama"},       {"hidden_size", 48},
              {"intermediate_size", 80},     {"num_hidden_layers", 2},
              {"num_attention_heads", 6},    {"num_key_value_heads", 2},
              {"vocab_size", vocabulary()},  {"max_position_embeddings", 128},
              {"rms_norm_eps", 1e-5},        {"rope_theta", 10000.0},
              {"tie_word_embeddings", false}};
    fill();
  }
  TinyCheckpoint(const TinyCheckpoint&) = delete;
  ~TinyCheckpoint() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  Json config, tokenizer, tokenizer_config = Json::object();
  std::map<std::string, Tensor> tensors;

  int64_t size(const char* key) const { return config.at(key).get<int64_t>(); }
  int64_t vocabulary() const {
    return static_cast<int64_t>(tokenizer.at("model").at("vocab").size()) + 2;
  }
  std::filesystem::path operator/(const std::string& name) const { return folder_ / name; }

  /// Random tensors of the shapes that `config` asks for.
  void fill() {
    tensors.clear();
    const int64_t hidden = size("hidden_size"), ffn = size("intermediate_size");
    const int64_t head = hidden / size("num_attention_heads");
    const int64_t kv_rows = head * size("num_key_value_heads");
    add("model.embed_tokens.weight", {vocabulary(), hidden}, 1);
    for (int64_t layer = 0; layer < size("num_hidden_layers"); ++layer) {
      const std::string prefix = fmt::format("model.layers.{}.", layer);
      add(prefix + "input_layernorm.weight", {hidden}, 1);
      add(prefix + "self_attn.q_proj.weight", {hidden, hidden}, 0.3f);
      add(prefix + "self_attn.k_proj.weight", {kv_rows, hidden}, 0.3f);
      add(prefix + "self_attn.v_proj.weight", {kv_rows, hidden}, 0.2f);
      add(prefix + "self_attn.o_proj.weight", {hidden, hidden}, 0.2f);
      add(prefix + "post_attention_layernorm.weight", {hidden}, 1);
      add(prefix + "mlp.gate_proj.weight", {ffn, hidden}, 0.2f);
      add(prefix + "mlp.up_proj.weight", {ffn, hidden}, 0.2f);
      add(prefix + "mlp.down_proj.weight", {hidden, ffn}, 0.1f);
    }
    add("model.norm.weight", {hidden}, 1);
    add("lm_head.weight", {vocabulary(), hidden}, 0.2f);
  }

  /// Random tensors of every role that the description of `config`'s architecture has, by the first
  /// of its names.
  void fill_as_described() {
    tensors.clear();
    const Architecture& architecture = architecture_of(config, "tiny");
    const ModelConfig read = read_config(architecture, config, "tiny");
    std::set<Role> filled;
    for (const TensorName& name : architecture.tensors) {
      if (!filled.insert(name.role).second) continue;
      const bool of_layer = name.gguf.find("{}") != name.gguf.npos;
      const bool experts = name.gguf.find("exp") != name.gguf.npos || name.role == Role::kRouter;
      const bool dense = name.role == Role::kGate || name.role == Role::kUp ||
                         name.role == Role::kGateUp || name.role == Role::kDown;
      if (name.hugging_face.empty() || (experts && read.experts == 0) ||
          (dense && read.experts > 0)) {
        continue;
      }
      for (int64_t layer = 0; layer < (of_layer ? read.layers : 1); ++layer) {
        add_described(architecture, name, layer, expected_shape(name.role, read));
      }
    }
  }

  void add(const std::string& name, const Shape& shape, float deviation) {
    add_around(shape.size() == 1 ? 1.0f : 0.0f, name, shape, deviation);
  }

  void add_around(float mean, const std::string& name, const Shape& shape, float deviation) {
    Tensor tensor{shape, {}};
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    std::normal_distribution<float> normal(mean, deviation / 4);
    for (int64_t i = 0; i < count; ++i) tensor.values.push_back(normal(random_));
    tensors[name] = std::move(tensor);
  }

  /// Writes config, tokenizer and weights and gives the folder.
  std::filesystem::path write() const {
    write_text("config.json", config.dump());
    write_text("tokenizer.json", tokenizer.dump());
    write_text("tokenizer_config.json", tokenizer_config.dump());
    write_weights();
    return folder_;
  }

  void write_text(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }

 private:
  void add_described(const Architecture& architecture, const TensorName& name, int64_t layer,
                     Shape shape) {
    const std::string stored = numbered(name.hugging_face, layer);
    const bool bias = stored.ends_with(".bias");
    const bool gain = !bias && (shape.size() == 1 || stored.find("norms.") != stored.npos);
    const float mean = gain && !architecture.norms_around_one ? 1.0f : 0.0f;
    const bool in_parts = stored.find("{}") != stored.npos;
    const int64_t parts = in_parts ? shape.front() : 1;
    if (in_parts) shape.erase(shape.begin());
    const bool of_layer = name.gguf.find("{}") != name.gguf.npos;
    if (architecture.transposed && of_layer) std::reverse(shape.begin(), shape.end());
    for (int64_t part = 0; part < parts; ++part) {
      const float deviation = shape.size() == 1 ? 1.0f : of_layer ? 0.5f : 1.5f;
      add_around(mean, numbered(stored, part), shape, deviation);
    }
  }

  void write_weights() const {
    Json header = Json::object();
    size_t offset = 0;
    for (const auto& [name, tensor] : tensors) {
      const size_t end = offset + tensor.values.size() * sizeof(float);
      header[name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
      offset = end;
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const auto length = static_cast<uint64_t>(text.size());
    std::ofstream file(folder_ / "model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&length), sizeof length);
    file << text;
    for (const auto& [name, tensor] : tensors) {
      file.write(reinterpret_cast<const char*>(tensor.values.data()),
                 static_cast<std::streamsize>(tensor.values.size() * sizeof(float)));
    }
  }

  /// SentencePiece style: every byte, the blank and the letters a to z.
  static Json make_tokenizer() {
    Json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
    for (int byte = 0; byte < 256; ++byte) {
      vocabulary[fmt::format("<0x{:02X}>", byte)] = vocabulary.size();
    }
    vocabulary["\u2581"] = vocabulary.size();
    for (char letter = 'a'; letter <= 'z'; ++letter) {
      vocabulary[std::string(1, letter)] = vocabulary.size();
    }
    Json json = parse_json(kTokenizer, "tiny tokenizer");
    json["model"]["vocab"] = vocabulary;
    return json;
  }

  static constexpr const char* kTokenizer = R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [
      {"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true},
      {"id": 2, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true}],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null,
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
               {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
      "continuing_subword_prefix": null, "end_of_word_suffix": null,
      "fuse_unk": true, "byte_fallback": true, "merges": []}})";

  std::filesystem::path folder_;
  std::mt19937 random_{7};
};

}  // namespace fewbits
