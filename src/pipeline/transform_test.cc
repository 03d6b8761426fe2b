#include "pipeline/transform.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <random>
#include <string>

#include "base/source_dir.h"
#include "calibrate/sample_run.h"
#include "engine/engine.h"
#include "engine/naive_model.h"
#include "model/tiny_checkpoint.h"

// Logits before and after, of every architecture, by a forward pass in double precision that reads
// the tensors of a folder by their Hugging Face names, and by the engine.
namespace fewbits {
namespace {

using testing::HasSubstr;

constexpr double kSame = 1e-4;
constexpr double kCacheRounding = 4e-3;  // the engine's keys and values are halves

std::vector<Token> some_tokens(int64_t vocabulary) {
  std::mt19937 random(11);
  std::vector<Token> tokens;
  for (int i = 0; i < 16; ++i) {
    tokens.push_back(static_cast<Token>(random() % static_cast<unsigned>(vocabulary)));
  }
  return tokens;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0, difference = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  return difference / largest;
}

std::vector<double> naive_logits(const TinyCheckpoint& checkpoint, const Model& model) {
  std::vector<double> all;
  for (const auto& row : NaiveModel(checkpoint, *model.architecture, model.config)
                             .logits(some_tokens(model.config.vocabulary))) {
    all.insert(all.end(), row.begin(), row.end());
  }
  return all;
}

/// Logits, or the hidden states of an encoder.
std::vector<double> engine_logits(const Model& model, ThreadPool& pool) {
  const std::vector<Token> tokens = some_tokens(model.config.vocabulary);
  const auto count = static_cast<int64_t>(tokens.size());
  Engine engine(model, pool);
  KvCache cache(model.config, count);
  const auto states = engine.forward(tokens, cache, count);
  if (!model.config.design.causal) return {states.begin(), states.end()};
  std::vector<float> logits(static_cast<size_t>(count * model.config.vocabulary));
  engine.logits(states, count, logits.data());
  return {logits.begin(), logits.end()};
}

/// The tensors of a folder, under names without the prefix that some have.
void read_tensors(const Model& model, TinyCheckpoint& checkpoint) {
  checkpoint.tensors.clear();
  for (const StoredTensor& tensor : model.store.tensors()) {
    std::vector<float> values(static_cast<size_t>(tensor.view.values()));
    decode_rows(*tensor.view.format, tensor.view.bytes.data(), tensor.view.rows(),
                tensor.view.columns(), values.data());
    checkpoint.tensors[tensor.name] = {tensor.view.shape, std::move(values)};
  }
}

void edit(const TransformOptions& options, Model& model, ModelEdits& edits, ThreadPool& pool) {
  LargestInputs largest;
  const std::vector<std::vector<Token>> samples = {some_tokens(model.config.vocabulary)};
  if (options.smooth) largest = gather_largest_inputs(model, samples, pool);
  edit_model(edits, options, largest);
}

class Transformed {
 public:
  Transformed(const TinyCheckpoint& checkpoint, const TransformOptions& options)
      : options_(options), source_(checkpoint.write()) {
    folder_ = checkpoint / "transformed";
    file_ = checkpoint / "transformed.gguf";
    write(folder_);
    write(file_);
  }

  const std::filesystem::path& folder() const { return folder_; }
  const std::filesystem::path& file() const { return file_; }

 private:
  void write(const std::filesystem::path& out) {
    std::filesystem::remove_all(out);
    Model model = open_model(source_);
    ModelEdits edits(model, pool_);
    edit(options_, model, edits, pool_);
    QuantizePlan plan = plan_transform(model, options_, names_folder(out));
    add_certificate(plan, {}, recipe_of(options_), false);
    QuantizeRun run;
    run.verify = false;  // syncs, many times
    write_transformed(model, plan, run, out, pool_);
  }

  TransformOptions options_;
  std::filesystem::path source_, folder_, file_;
  ThreadPool pool_{1};
};

struct Case {
  const char* name;
  const char* config;                      ///< JSON, laid over the tiny Llama's
  const char* refused_residual = nullptr;  ///< a part of what is said; null: it can be rotated
};

const Case kCases[] = {
    {"Falcon", R"({"model_type": "falcon", "num_kv_heads": 2, "new_decoder_architecture": true})"},
    {"FalconWithOneValueHead", R"({"model_type": "falcon", "alibi": false})"},
    {"Gemma2", R"({"model_type": "gemma2", "head_dim": 16, "sliding_window": 6,
                   "query_pre_attn_scalar": 20, "attn_logit_softcapping": 2.0,
                   "final_logit_softcapping": 3.0})",
     "post_attention_norm"},
    {"Gemma3", R"({"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 6,
                   "sliding_window_pattern": 2, "rope_local_base_freq": 100.0})",
     "post_attention_norm"},
    {"Gpt2", R"({"model_type": "gpt2"})"},
    {"Granite", R"({"model_type": "granite", "embedding_multiplier": 3.0,
                    "residual_multiplier": 0.3, "attention_multiplier": 0.2,
                    "logits_scaling": 5.0})"},
    {"Llama", R"({"model_type": "llama"})"},
    {"LlamaTied", R"({"model_type": "llama", "tie_word_embeddings": true})"},
    {"Mistral", R"({"model_type": "mistral", "sliding_window": 6})"},
    {"Mixtral", R"({"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2})"},
    {"Olmo2", R"({"model_type": "olmo2"})", "post_attention_norm"},
    {"Opt", R"({"model_type": "opt"})"},
    {"Phi3", R"({"model_type": "phi3", "partial_rotary_factor": 0.5})"},
    {"Qwen2", R"({"model_type": "qwen2", "tie_word_embeddings": true})"},
    {"Qwen3", R"({"model_type": "qwen3", "head_dim": 16})"},
    {"Qwen3Moe", R"({"model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 3,
                     "moe_intermediate_size": 32})"},
    {"StableLm", R"({"model_type": "stablelm", "partial_rotary_factor": 0.25})"},
};

const std::pair<const char*, TransformOptions> kTransforms[] = {
    {"fuse norms", {.fuse_norms = true}},
    {"rotate residual", {.rotate_residual = true}},
    {"rotate heads", {.rotate_heads = true}},
    {"equalize", {.equalize = true}},
    {"smooth", {.smooth = 0.5}},
    {"all but smooth",
     {.fuse_norms = true, .rotate_residual = true, .rotate_heads = true, .equalize = true}},
};

void expect_same(TinyCheckpoint& checkpoint, const TransformOptions& options) {
  const std::filesystem::path source = checkpoint.write();
  const Model before = open_model(source);
  const std::vector<double> wanted = naive_logits(checkpoint, before);
  const Transformed transformed(checkpoint, options);
  const Model folder = open_model(transformed.folder());
  TinyCheckpoint after;
  read_tensors(folder, after);
  EXPECT_LT(distance(wanted, naive_logits(after, folder)), kSame);
  ThreadPool pool(1);
  const Model file = open_model(transformed.file());
  EXPECT_LT(distance(wanted, engine_logits(file, pool)), kCacheRounding);
  Model edited = open_model(source);
  ModelEdits edits(edited, pool);
  edit(options, edited, edits, pool);
  EXPECT_LT(distance(wanted, engine_logits(edited, pool)), kCacheRounding) << "not written";
}

class KeepsTheFunction : public testing::TestWithParam<Case> {};

TEST_P(KeepsTheFunction, WithEveryTransform) {
  TinyCheckpoint checkpoint;
  checkpoint.config.update(parse_json(GetParam().config, "test"));
  checkpoint.fill_as_described();
  if (checkpoint.config.at("tie_word_embeddings").get<bool>()) {
    checkpoint.tensors.erase("lm_head.weight");
  }
  for (const auto& [name, options] : kTransforms) {
    SCOPED_TRACE(name);
    if (!options.rotate_residual || GetParam().refused_residual == nullptr) {
      expect_same(checkpoint, options);
      continue;
    }
    try {
      const Transformed refused(checkpoint, options);
      FAIL() << "was not refused";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(GetParam().refused_residual));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Transform, KeepsTheFunction, testing::ValuesIn(kCases),
                         [](const auto& each) { return std::string(each.param.name); });

const std::pair<const char*, TransformOptions> kTogether[] = {
    {"residual", {.fuse_norms = true, .rotate_residual = true, .rotate_heads = true}},
    {"others", {.rotate_heads = true, .equalize = true}},
    {"smooth", {.smooth = 0.5}},
};

/// A folder as transformers wrote it, with other numbers in it.
void fill_as_golden(TinyCheckpoint& checkpoint, const Json& golden) {
  checkpoint.config = golden.at("config");
  checkpoint.tensors.clear();
  for (const auto& [name, described] : golden.at("tensors").items()) {
    constexpr float kQuarters = 4;  // in which add_around counts
    checkpoint.add_around(described.at(1).get<float>(), name, described.at(0).get<Shape>(),
                          kQuarters * described.at(2).get<float>());
  }
}

/// What the engine computes with the folder and with the file that a transform writes; what is
/// said where it is refused.
std::string try_on(TinyCheckpoint& checkpoint, const TransformOptions& options) {
  ThreadPool pool(1);
  const std::vector<double> wanted = engine_logits(open_model(checkpoint.write()), pool);
  try {
    const Transformed transformed(checkpoint, options);
    EXPECT_LT(distance(wanted, engine_logits(open_model(transformed.folder()), pool)),
              kCacheRounding);
    EXPECT_LT(distance(wanted, engine_logits(open_model(transformed.file()), pool)),
              kCacheRounding);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Transform, KeepsTheFunctionOfFoldersThatTransformersWrote) {
  const auto folder = source_dir() / "tests/golden/engine/transformers";
  std::map<std::string, std::string> refusals;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".json") continue;
    TinyCheckpoint checkpoint;
    fill_as_golden(checkpoint, read_json_file(file.path()));
    for (const auto& [name, options] : kTogether) {
      const std::string place = file.path().stem().string() + ", " + name;
      SCOPED_TRACE(place);
      const std::string refusal = try_on(checkpoint, options);
      if (!refusal.empty()) refusals[place] = refusal;
    }
  }
  for (const char* model : {"gemma2", "gemma3", "olmo2", "olmo3", "olmo3_yarn"}) {
    const auto found = refusals.find(std::string(model) + ", residual");
    ASSERT_NE(found, refusals.end()) << model;
    EXPECT_THAT(found->second, HasSubstr("post_attention_norm"));
    refusals.erase(found);
  }
  for (const auto& [place, refusal] : refusals) {
    const bool encoder = place.find("bert") != std::string::npos;
    EXPECT_TRUE(encoder) << place << ": " << refusal;
    EXPECT_THAT(refusal, testing::AnyOf(HasSubstr("norm"), HasSubstr("asked for")));
  }
}

TEST(Transform, RefusesWhatDoesNotGoTogether) {
  EXPECT_THROW(check_transform({}), Error);
  EXPECT_THROW(check_transform({.equalize = true, .smooth = 0.5}), Error);
  EXPECT_THROW(check_transform({.equalize = true, .type = "Q4_0"}), Error);
  check_transform({.equalize = true, .type = "F16"});
}

TEST(Transform, EvensOutRowsAndColumns) {
  TinyCheckpoint checkpoint;
  Model model = open_model(checkpoint.write());
  ThreadPool pool(1);
  ModelEdits edits(model, pool);
  edits.equalize();
  edits.finish();
  std::vector<float> row(48), rows;
  for (int64_t i = 0; i < 80; ++i) {
    model.find(Role::kUp, 0)->read_row(i, row.data());
    float largest = 0;
    for (const float value : row) largest = std::max(largest, std::abs(value));
    rows.push_back(largest);
  }
  std::vector<float> columns(80), line(80);
  for (int64_t i = 0; i < 48; ++i) {
    model.find(Role::kDown, 0)->read_row(i, line.data());
    for (size_t j = 0; j < 80; ++j) columns[j] = std::max(columns[j], std::abs(line[j]));
  }
  for (size_t j = 0; j < 80; ++j) EXPECT_NEAR(rows[j], columns[j], 1e-5 * rows[j]);
}

}  // namespace
}  // namespace fewbits
