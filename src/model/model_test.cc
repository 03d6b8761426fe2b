#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "base/error.h"
#include "files/gguf.h"
#include "model/tiny_checkpoint.h"
#include "model/weights.h"

namespace fewbits {
namespace {

using testing::HasSubstr;

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string error_of(const TinyCheckpoint& checkpoint) {
  const std::filesystem::path folder = checkpoint.write();
  return error_of([&] { open_model(folder); });
}

TEST(Model, KnowsEverythingAboutAFolder) {
  TinyCheckpoint checkpoint;
  checkpoint.tokenizer_config["chat_template"] = "{{ messages }}";
  const Model model = open_model(checkpoint.write());
  EXPECT_EQ(model.architecture->name, "llama");
  EXPECT_EQ(model.config.head_dim, 8);
  EXPECT_EQ(model.config.kv_heads, 2);
  EXPECT_FALSE(model.config.tied_embeddings);
  EXPECT_EQ(model.chat_template, "{{ messages }}");
  EXPECT_THAT(model.warnings, testing::IsEmpty());
  ASSERT_EQ(model.weights.size(), 3u + 2 * 9);
  EXPECT_EQ(model.weights[0].gguf_name, "token_embd.weight");
  EXPECT_EQ(model.weights[1].gguf_name, "blk.0.attn_norm.weight");
  EXPECT_EQ(model.weights.back().gguf_name, "output.weight");
  EXPECT_EQ(model.find(Role::kDown, 1)->gguf_name, "blk.1.ffn_down.weight");
  EXPECT_EQ(model.find(Role::kRopeFactors), nullptr);
}

TEST(Model, WritesTheMetadataThatLlamaCppReads) {
  const TinyCheckpoint checkpoint;
  const Model model = open_model(checkpoint.write());
  const Metadata metadata = gguf_metadata(model);
  EXPECT_EQ(metadata.string("general.architecture"), "llama");
  EXPECT_EQ(metadata.integer("llama.block_count"), 2);
  EXPECT_EQ(metadata.integer("llama.embedding_length"), 48);
  EXPECT_EQ(metadata.integer("llama.attention.head_count"), 6);
  EXPECT_EQ(metadata.integer("llama.attention.head_count_kv"), 2);
  EXPECT_EQ(metadata.integer("llama.rope.dimension_count"), 8);
  EXPECT_EQ(metadata.number("llama.rope.freq_base"), 10000);
  EXPECT_FALSE(metadata.has("llama.rope.scaling.type"));
  const auto* tokens = metadata.strings("tokenizer.ggml.tokens");
  ASSERT_NE(tokens, nullptr);
  EXPECT_EQ(static_cast<int64_t>(tokens->size()), checkpoint.vocabulary());
  EXPECT_EQ(tokens->back(), fmt::format("[PAD{}]", checkpoint.vocabulary() - 1));
  EXPECT_EQ(metadata.integers("tokenizer.ggml.token_type")->size(), tokens->size());
}

TEST(Model, TiesWhereTheConfigSaysSoOrTheOutputIsMissing) {
  TinyCheckpoint said;
  said.config["tie_word_embeddings"] = true;
  const Model ignoring = open_model(said.write());
  EXPECT_TRUE(ignoring.config.tied_embeddings);
  EXPECT_EQ(ignoring.find(Role::kOutput), nullptr);
  EXPECT_THAT(ignoring.warnings, testing::ElementsAre(HasSubstr("'lm_head.weight' is ignored")));

  TinyCheckpoint missing;
  missing.tensors.erase("lm_head.weight");
  EXPECT_TRUE(open_model(missing.write()).config.tied_embeddings);
}

TEST(Model, NamesTheTensorThatIsMissingMisshapenOrLeftOver) {
  TinyCheckpoint missing;
  missing.tensors.erase("model.layers.1.mlp.up_proj.weight");
  EXPECT_THAT(error_of(missing),
              HasSubstr("tensor 'model.layers.1.mlp.up_proj.weight' is missing"));

  TinyCheckpoint misshapen;
  misshapen.add("model.layers.0.self_attn.k_proj.weight", {24, 48}, 1);
  EXPECT_THAT(error_of(misshapen), HasSubstr("'model.layers.0.self_attn.k_proj.weight' has shape "
                                             "[24, 48], the config asks for [16, 48]"));

  TinyCheckpoint left_over;
  left_over.add("model.layers.0.self_attn.q_norm.weight", {8}, 1);
  EXPECT_THAT(error_of(left_over),
              HasSubstr("no place for tensor 'model.layers.0.self_attn.q_norm"));

  TinyCheckpoint harmless;
  harmless.add("model.layers.0.self_attn.rotary_emb.inv_freq", {4}, 1);
  EXPECT_EQ(error_of(harmless), "");
}

struct BadConfig {
  const char* key;
  const char* value;  ///< JSON
  const char* message;
};

class RefusedConfig : public testing::TestWithParam<BadConfig> {};

TEST_P(RefusedConfig, InOneClearLine) {
  TinyCheckpoint checkpoint;
  checkpoint.config[GetParam().key] = parse_json(GetParam().value, "test");
  const std::string message = error_of(checkpoint);
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  EXPECT_THAT(message, testing::StartsWith((checkpoint / "config.json").string()));
  EXPECT_THAT(message, testing::Not(HasSubstr("\n")));
}

const BadConfig kBadConfigs[] = {
    {"hidden_act", "\"gelu\"", "'hidden_act: \"gelu\"' is not supported for llama"},
    {"attention_bias", "true", "'attention_bias: true' is not supported"},
    {"quantization_config", "{\"quant_method\": \"hqq\"}", "quant_method 'hqq' is unknown"},
    {"num_attention_heads", "7", "no multiple of 7 attention heads"},
    {"num_attention_heads", "0", "number of attention heads is 0"},
    {"num_key_value_heads", "4", "6 attention heads do not share out 4 key/value heads"},
    {"head_dim", "7", "head size 7 is odd"},
    {"head_dim", "1000000000", "head size is 1000000000"},
    {"hidden_size", "-48", "hidden size is -48"},
    {"hidden_size", "9223372036854775806", "hidden size is 9223372036854775806"},
    {"num_hidden_layers", "1e18", "'num_hidden_layers'"},
    {"vocab_size", "4611686018427387904", "vocabulary size"},
    {"vocab_size", "\"many\"", "'vocab_size' must be an integer"},
    {"rms_norm_eps", "0", "RMS norm epsilon is 0"},
    {"rope_theta", "-1", "RoPE theta is -1"},
    {"rope_scaling", "{\"rope_type\": \"dynamic\"}", "known: default, linear, llama3"},
    {"rope_scaling", "{\"type\": \"linear\", \"factor\": 0}", "RoPE scaling factor is 0"},
    {"rope_scaling", "{\"rope_type\": \"llama3\", \"low_freq_factor\": 4}", "must be above"},
    {"rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4, \"beta_slow\": 40}",
     "RoPE beta_fast 32 must be above beta_slow 40"},
    {"rope_scaling", "{\"rope_type\": \"yarn\", \"factor\": 4, \"truncate\": false}",
     "'truncate: false' is not supported"},
    {"rope_scaling", "{\"type\": \"longrope\", \"long_factor\": [1]}", "no list 'short_factor'"},
    {"rope_scaling",
     "{\"type\": \"longrope\", \"factor\": 2, \"long_factor\": [1], \"short_factor\": [1]}",
     "RoPE short_factor has 1 numbers, must have 4"},
    {"rope_scaling", "[]", "'rope_scaling' must be an object"},
    {"sliding_window", "-2", "sliding window is -2"},
};

/// Names of the keys under "ARCH." that a GGUF of this config's model has beyond Llama's.
std::vector<std::string> keys_of(const TinyCheckpoint& checkpoint, const std::string& prefix) {
  std::vector<std::string> keys;
  const Model model = open_model(checkpoint.write());
  const Metadata metadata = gguf_metadata(model);
  for (const auto& [key, value] : metadata.entries()) {
    if (key.starts_with(prefix)) keys.push_back(key.substr(prefix.size()));
  }
  return keys;
}

TEST(Model, WritesHowRotaryPositionsAreStretched) {
  TinyCheckpoint yarn;
  yarn.config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
  EXPECT_THAT(keys_of(yarn, "llama.rope.scaling."),
              testing::UnorderedElementsAre("type", "factor", "original_context_length",
                                            "yarn_beta_fast", "yarn_beta_slow"));
  yarn.config["rope_scaling"]["attention_factor"] = 1.0;
  EXPECT_THAT(keys_of(yarn, "llama.rope.scaling."), testing::Contains("attn_factor"));

  TinyCheckpoint longrope;
  longrope.config["original_max_position_embeddings"] = 32;
  longrope.config["rope_scaling"] = {{"type", "su"},
                                     {"short_factor", {1.0, 1.0, 1.0, 1.0}},
                                     {"long_factor", {1.0, 2.0, 3.0, 4.0}}};
  EXPECT_THAT(keys_of(longrope, "llama.rope.scaling."),
              testing::UnorderedElementsAre("type", "original_context_length", "attn_factor"));
  const Model model = open_model(longrope.write());
  ASSERT_NE(model.find(Role::kRopeFactorsLong), nullptr);
  EXPECT_EQ(model.find(Role::kRopeFactorsLong)->gguf_name, "rope_factors_long.weight");
  EXPECT_EQ(model.config.rope_scaling.factor, 4);
}

/// Without tensors: what is refused is refused by the numbers.
TEST(Model, RefusesLatentAttentionThatItCannotCompute) {
  const auto error_with = [](const char* key, const Json& value) {
    TinyCheckpoint checkpoint;
    checkpoint.config.update({{"model_type", "deepseek_v2"},
                              {"kv_lora_rank", 16},
                              {"qk_nope_head_dim", 8},
                              {"qk_rope_head_dim", 4},
                              {"v_head_dim", 8},
                              {"n_routed_experts", 4},
                              {"num_experts_per_tok", 2},
                              {"moe_intermediate_size", 16}});
    checkpoint.config[key] = value;
    return error_of(checkpoint);
  };
  EXPECT_THAT(error_with("q_lora_rank", 32), HasSubstr("'q_lora_rank: 32' is not supported"));
  EXPECT_THAT(error_with("kv_lora_rank", 0), HasSubstr("latent size is 0"));
  EXPECT_THAT(error_with("v_head_dim", 13), HasSubstr("size of values is 13"));
  EXPECT_THAT(error_with("qk_nope_head_dim", 0), HasSubstr("size of values is 8"));
  EXPECT_THAT(error_with("qk_rope_head_dim", int64_t{-1} << 62), HasSubstr("head size is"));
  EXPECT_THAT(error_with("n_shared_experts", int64_t{1} << 62), HasSubstr("shared experts are"));
  EXPECT_THAT(error_with("first_k_dense_replace", 3), HasSubstr("3 of 2 layers without experts"));
}

INSTANTIATE_TEST_SUITE_P(Model, RefusedConfig, testing::ValuesIn(kBadConfigs));

TEST(Model, RefusesATokenizerThatIsTooLarge) {
  TinyCheckpoint checkpoint;
  checkpoint.config["vocab_size"] = checkpoint.vocabulary() - 3;
  checkpoint.add("model.embed_tokens.weight", {checkpoint.vocabulary() - 3, 48}, 1);
  checkpoint.add("lm_head.weight", {checkpoint.vocabulary() - 3, 48}, 1);
  EXPECT_THAT(error_of(checkpoint), HasSubstr("tokens, the embedding only"));
}

TEST(Model, SaysWhatAFolderLacks) {
  const TinyCheckpoint checkpoint;
  const std::filesystem::path folder = checkpoint.write();
  std::filesystem::remove(folder / "tokenizer.json");
  EXPECT_THAT(error_of([&] { open_model(folder); }), HasSubstr("has no tokenizer.json"));
  EXPECT_THAT(error_of([&] { open_model(folder / "config.json"); }), HasSubstr("name the folder"));
  EXPECT_THAT(error_of([&] { open_model(folder / "nothing"); }), HasSubstr("no such file"));
}

TEST(Model, KnowsWhichLayersSlide) {
  TinyCheckpoint checkpoint;
  checkpoint.config["model_type"] = "mistral";
  EXPECT_FALSE(open_model(checkpoint.write()).config.slides(0));
  checkpoint.config["sliding_window"] = 64;
  const ModelConfig all = open_model(checkpoint.write()).config;
  EXPECT_TRUE(all.slides(0) && all.slides(1));
  checkpoint.config["layer_types"] = {"sliding_attention", "full_attention"};
  const ModelConfig every_second = open_model(checkpoint.write()).config;
  EXPECT_TRUE(every_second.slides(0));
  EXPECT_FALSE(every_second.slides(1));
  checkpoint.config["layer_types"] = {"full_attention", "sliding_attention"};
  EXPECT_THAT(error_of(checkpoint), HasSubstr("'layer_types'"));
}

TEST(Model, TakesTheChatTemplateThatTransformersTakes) {
  TinyCheckpoint checkpoint;
  checkpoint.tokenizer_config["chat_template"] = {{{"name", "tools"}, {"template", "T"}},
                                                  {{"name", "default"}, {"template", "D"}}};
  EXPECT_EQ(open_model(checkpoint.write()).chat_template, "D");
  checkpoint.write_text("chat_template.json", R"({"chat_template": "J"})");
  EXPECT_EQ(open_model(checkpoint.write()).chat_template, "J");
  checkpoint.write_text("chat_template.jinja", "F");
  const Model model = open_model(checkpoint.write());
  EXPECT_EQ(model.chat_template, "F");
  EXPECT_EQ(gguf_metadata(model).string("tokenizer.chat_template"), "F");
}

TEST(Model, StopsAtTheTokensOfTheGenerationConfig) {
  const TinyCheckpoint checkpoint;
  checkpoint.write_text("generation_config.json", R"({"eos_token_id": [2, 9, 99999999]})");
  const Model model = open_model(checkpoint.write());
  EXPECT_TRUE(model.ends_generation(9));
  EXPECT_TRUE(model.ends_generation(2));
  EXPECT_FALSE(model.ends_generation(10));
}

/// Hugging Face's _compute_llama3_parameters, step by step, in its own order.
double llama3_frequency(double inv_freq, const RopeScaling& scaling) {
  const double original = static_cast<double>(scaling.original_context);
  const double wavelength = 2 * std::numbers::pi / inv_freq;
  if (wavelength < original / scaling.high_frequency_factor) return inv_freq;
  if (wavelength > original / scaling.low_frequency_factor) return inv_freq / scaling.factor;
  const double smooth = (original / wavelength - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1 - smooth) * inv_freq / scaling.factor + smooth * inv_freq;
}

TEST(Model, StretchesFrequenciesAsLlama3Does) {
  ModelConfig config;
  config.head_dim = 128;
  config.rope_theta = 500000;
  config.rope_scaling = {RopeScaling::Kind::kLlama3, 8, 1, 4, 8192};
  const std::vector<float> factors =
      rope_divisors(config.rope_scaling, config.rope_theta, config.head_dim);
  ASSERT_EQ(factors.size(), 64u);
  for (size_t i = 0; i < factors.size(); ++i) {
    const double inv_freq = std::pow(500000, -static_cast<double>(i) / 64);
    EXPECT_NEAR(inv_freq / factors[i] / llama3_frequency(inv_freq, config.rope_scaling), 1, 1e-6);
  }
  EXPECT_EQ(factors.front(), 1);
  EXPECT_EQ(factors.back(), 8);
}

TEST(Model, DerivesRopeFactorsForGguf) {
  TinyCheckpoint checkpoint;
  checkpoint.config["rope_scaling"] = {{"rope_type", "llama3"},
                                       {"factor", 8.0},
                                       {"low_freq_factor", 1.0},
                                       {"high_freq_factor", 4.0},
                                       {"original_max_position_embeddings", 64}};
  const Model model = open_model(checkpoint.write());
  const Weight* weight = model.find(Role::kRopeFactors);
  ASSERT_NE(weight, nullptr);
  EXPECT_EQ(weight->gguf_name, "rope_freqs.weight");
  EXPECT_EQ(weight->tensor->view.shape, Shape{4});
  EXPECT_EQ(weight->tensor->view.bytes.size(), 16u);
  weight->tensor->file->drop(weight->tensor->view.bytes);  // must do nothing
}

TEST(Weights, InterleavingPairsTheHalvesOfEachHead) {
  EXPECT_EQ(interleaved_rows(2, 4, false), (std::vector<int32_t>{0, 2, 1, 3, 4, 6, 5, 7}));
  const auto there = interleaved_rows(3, 10, false), back = interleaved_rows(3, 10, true);
  for (size_t i = 0; i < there.size(); ++i) {
    EXPECT_EQ(back[static_cast<size_t>(there[i])], static_cast<int32_t>(i));
  }
}

/// Writes every weight in its own format, in GGUF's row order.
void write_as_gguf(const Model& model, const std::filesystem::path& path) {
  std::vector<PlannedTensor> planned;
  for (const Weight& weight : model.weights) {
    planned.push_back({weight.gguf_name, weight.tensor->view.format, weight.tensor->view.shape});
  }
  GgufWriter writer(path, gguf_metadata(model), planned);
  for (const Weight& weight : model.weights) {
    for (int64_t row = 0; row < weight.tensor->view.rows(); ++row) {
      const auto index = static_cast<size_t>(row);
      writer.append(
          weight.tensor->view.row(weight.gguf_rows.empty() ? row : weight.gguf_rows[index]));
    }
  }
  writer.commit();
}

TEST(Model, ReadsBackWhatItGaveToGguf) {
  TinyCheckpoint checkpoint;
  checkpoint.config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  checkpoint.config["tie_word_embeddings"] = true;
  checkpoint.tensors.erase("lm_head.weight");
  const Model model = open_model(checkpoint.write());
  write_as_gguf(model, checkpoint / "model.gguf");
  const Model again = open_model(checkpoint / "model.gguf");
  EXPECT_TRUE(again.config.tied_embeddings);
  EXPECT_EQ(again.config.rope_scaling.kind, RopeScaling::Kind::kLinear);
  EXPECT_EQ(again.config.rope_scaling.factor, 2);
  EXPECT_EQ(again.config.vocabulary, model.config.vocabulary);
  EXPECT_EQ(again.metadata.entries().size(), gguf_metadata(model).entries().size());
  ASSERT_EQ(again.weights.size(), model.weights.size());
  for (size_t i = 0; i < model.weights.size(); ++i) {
    const Weight &before = model.weights[i], &after = again.weights[i];
    EXPECT_EQ(before.gguf_name, after.gguf_name);
    for (int64_t row = 0; row < before.tensor->view.rows(); ++row) {
      const auto index = static_cast<size_t>(row);
      const int64_t stored = after.stored_rows.empty() ? row : after.stored_rows[index];
      EXPECT_TRUE(std::ranges::equal(before.tensor->view.row(row), after.tensor->view.row(stored)));
    }
  }
}

TEST(Model, RefusesGgufKeysItCannotHonour) {
  const TinyCheckpoint checkpoint;
  Model model = open_model(checkpoint.write());
  const Metadata good = model.metadata;
  const auto error_with = [&](const std::function<void(Metadata&)>& change) {
    model.metadata = good;
    change(model.metadata);
    write_as_gguf(model, checkpoint / "model.gguf");
    return error_of([&] { open_model(checkpoint / "model.gguf"); });
  };
  EXPECT_EQ(error_with([](Metadata&) {}), "");
  EXPECT_THAT(error_with([](Metadata& m) { m.set_string("general.architecture", "rwkv"); }),
              HasSubstr("metadata key 'rwkv.embedding_length' is missing"));
  EXPECT_THAT(error_with([](Metadata& m) { m.erase("llama.block_count"); }),
              HasSubstr("metadata key 'llama.block_count' is missing"));
  EXPECT_THAT(error_with([](Metadata& m) { m.set_uint32("llama.expert_count", 8); }),
              HasSubstr("experts used is 0"));
  EXPECT_THAT(error_with([](Metadata& m) { m.set_uint32("llama.rope.dimension_count", 4); }),
              HasSubstr("'llama.rope.dimension_count' is 4"));
  EXPECT_THAT(error_with([](Metadata& m) { m.set_string("llama.rope.scaling.type", "ntk"); }),
              HasSubstr("'llama.rope.scaling.type' is 'ntk'"));
  EXPECT_THAT(error_with([](Metadata& m) { m.set_uint32("llama.attention.head_count", 12); }),
              HasSubstr("the config asks for"));
}

TEST(Model, TakesTheTextPartOfAModelWithOthers) {
  TinyCheckpoint checkpoint;
  checkpoint.config.update(parse_json(
      R"({"model_type": "gemma3_text", "head_dim": 16, "query_pre_attn_scalar": 16})", "test"));
  checkpoint.fill_as_described();
  const Json text = checkpoint.config;
  checkpoint.config = {{"model_type", "gemma3"}, {"text_config", text}};
  checkpoint.config["text_config"].erase("rms_norm_eps");
  auto tensors = std::move(checkpoint.tensors);
  for (auto& [name, tensor] : tensors) checkpoint.tensors["language_model." + name] = tensor;
  checkpoint.add("vision_tower.patches.weight", {4, 4}, 1);
  const Model model = open_model(checkpoint.write());
  EXPECT_EQ(model.config.norm_epsilon, 1e-6);
  EXPECT_EQ(model.config.head_dim, 16);
  EXPECT_THAT(model.warnings, testing::Contains(HasSubstr("only the text part")));
}

TEST(Model, TakesAnUnknownNameWithLlamasTensorsForALlama) {
  TinyCheckpoint checkpoint;
  checkpoint.config["model_type"] = "foo";
  const Model model = open_model(checkpoint.write());
  EXPECT_THAT(model.warnings, testing::ElementsAre(HasSubstr("taken for a Llama")));
  EXPECT_EQ(model.metadata.string("general.architecture"), "llama");
  checkpoint.config["clip_qkv"] = 8.0;
  EXPECT_THAT(error_of(checkpoint), HasSubstr("'clip_qkv: 8.0' is not supported"));
  checkpoint.config.erase("clip_qkv");
  checkpoint.tensors.erase("model.layers.0.mlp.gate_proj.weight");
  EXPECT_THAT(error_of(checkpoint), HasSubstr("'model_type: \"foo\"' is no known architecture"));
}

TEST(Architectures, AreSortedAndWhole) {
  std::string_view previous;
  for (const Architecture* architecture : architectures()) {
    EXPECT_LT(previous, architecture->name);
    previous = architecture->name;
    EXPECT_FALSE(architecture->model_types.empty());
    EXPECT_EQ(architecture->tensors.front().role, Role::kEmbedding);
    EXPECT_EQ(architecture->tensors.back().role == Role::kOutput, architecture->design.causal);
  }
}

}  // namespace
}  // namespace fewbits
