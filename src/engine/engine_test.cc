#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "engine/naive_model.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

// Halves in the cache are good to 2^-11, and two layers of attention sum many of them: measured
// 3e-4 of the largest logit.
constexpr double kCacheRounding = 2e-3;
// The same sums in another order, and whatever halves that flips.
constexpr double kOrderRounding = 1e-3;

std::vector<Token> random_tokens(const Model& model, int64_t count, unsigned seed = 3) {
  std::mt19937 random(seed);
  std::vector<Token> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<Token>(random() % static_cast<unsigned>(model.config.vocabulary)));
  }
  return tokens;
}

/// Logits of all tokens, fed in passes of the given sizes.
std::vector<float> all_logits(Engine& engine, const std::vector<Token>& tokens,
                              const std::vector<int64_t>& pieces) {
  KvCache cache(engine.config(), static_cast<int64_t>(tokens.size()));
  std::vector<float> logits(tokens.size() * static_cast<size_t>(engine.config().vocabulary));
  int64_t begin = 0;
  for (const int64_t size : pieces) {
    const std::span piece(tokens.data() + begin, static_cast<size_t>(size));
    engine.logits(engine.forward(piece, cache, size), size,
                  logits.data() + begin * engine.config().vocabulary);
    begin += size;
  }
  EXPECT_EQ(cache.length(), static_cast<int64_t>(tokens.size()));
  return logits;
}

std::vector<float> all_logits(Engine& engine, const std::vector<Token>& tokens) {
  return all_logits(engine, tokens, {static_cast<int64_t>(tokens.size())});
}

/// Largest difference over largest magnitude.
template <class A, class B>
double relative_distance(const std::vector<A>& a, const std::vector<B>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(double{a[i]}));
    difference = std::max(difference, std::abs(double{a[i]} - b[i]));
  }
  return difference / largest;
}

double distance_from_naive(const TinyCheckpoint& checkpoint, int64_t count) {
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(2);
  Engine engine(model, pool, {.batch = 16});
  const std::vector<Token> tokens = random_tokens(model, count);
  std::vector<double> naive;
  for (const auto& row : NaiveModel(checkpoint, *model.architecture, model.config).logits(tokens)) {
    naive.insert(naive.end(), row.begin(), row.end());
  }
  return relative_distance(naive, all_logits(engine, tokens));
}

TEST(Engine, AgreesWithTheNaiveForward) {
  EXPECT_LT(distance_from_naive(TinyCheckpoint(), 40), kCacheRounding);
}

TEST(Engine, AgreesWithTheNaiveForwardWhereTied) {
  TinyCheckpoint checkpoint;
  checkpoint.tensors.erase("lm_head.weight");
  EXPECT_LT(distance_from_naive(checkpoint, 9), kCacheRounding);
}

TEST(Engine, AgreesWithTheNaiveForwardWhereRopeIsScaled) {
  TinyCheckpoint checkpoint;
  checkpoint.config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.5}};
  EXPECT_LT(distance_from_naive(checkpoint, 33), kCacheRounding);
  checkpoint.config["rope_scaling"] = {{"rope_type", "llama3"},
                                       {"factor", 8.0},
                                       {"low_freq_factor", 1.0},
                                       {"high_freq_factor", 4.0},
                                       {"original_max_position_embeddings", 64}};
  EXPECT_LT(distance_from_naive(checkpoint, 33), kCacheRounding);
}

TEST(Engine, AgreesWithTheNaiveForwardForEveryGroupOfHeads) {
  for (const int kv_heads : {1, 3, 6}) {
    TinyCheckpoint checkpoint;
    checkpoint.config["num_key_value_heads"] = kv_heads;
    checkpoint.fill();
    EXPECT_LT(distance_from_naive(checkpoint, 21), kCacheRounding) << kv_heads;
  }
}

struct Described {
  const char* name;
  const char* config;  ///< JSON, laid over the tiny Llama's
};

class EveryArchitecture : public testing::TestWithParam<Described> {};

TEST_P(EveryArchitecture, AgreesWithTheNaiveForward) {
  TinyCheckpoint checkpoint;
  checkpoint.config.update(parse_json(GetParam().config, "test"));
  checkpoint.fill_as_described();
  EXPECT_LT(distance_from_naive(checkpoint, 16), kCacheRounding);
}

const Described kDescribed[] = {
    {"Falcon", R"({"model_type": "falcon", "num_kv_heads": 2, "new_decoder_architecture": true})"},
    {"FalconWithOneValueHead", R"({"model_type": "falcon", "alibi": false})"},
    {"Gemma2", R"({"model_type": "gemma2", "head_dim": 16, "sliding_window": 6,
                   "query_pre_attn_scalar": 20, "attn_logit_softcapping": 2.0,
                   "final_logit_softcapping": 3.0})"},
    {"Gemma3", R"({"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 6,
                   "sliding_window_pattern": 2, "rope_local_base_freq": 100.0,
                   "rope_scaling": {"rope_type": "linear", "factor": 4.0}})"},
    {"Gpt2", R"({"model_type": "gpt2"})"},
    {"Granite", R"({"model_type": "granite", "embedding_multiplier": 3.0,
                    "residual_multiplier": 0.3, "attention_multiplier": 0.2,
                    "logits_scaling": 5.0})"},
    {"Mistral", R"({"model_type": "mistral", "sliding_window": 6})"},
    {"Mixtral", R"({"model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 2})"},
    {"Olmo2", R"({"model_type": "olmo2"})"},
    {"Opt", R"({"model_type": "opt"})"},
    {"Phi3", R"({"model_type": "phi3", "partial_rotary_factor": 0.5})"},
    {"Qwen2", R"({"model_type": "qwen2"})"},
    {"Qwen3", R"({"model_type": "qwen3", "head_dim": 16})"},
    {"Qwen3Moe", R"({"model_type": "qwen3_moe", "num_experts": 6, "num_experts_per_tok": 3,
                     "moe_intermediate_size": 32})"},
    {"StableLm", R"({"model_type": "stablelm", "partial_rotary_factor": 0.25})"},
};

INSTANTIATE_TEST_SUITE_P(Engine, EveryArchitecture, testing::ValuesIn(kDescribed),
                         [](const auto& each) { return std::string(each.param.name); });

TEST(Engine, StableLmWithoutASecondNormPutsItsPartsSideBySide) {
  TinyCheckpoint checkpoint;
  checkpoint.config["model_type"] = "stablelm";
  checkpoint.fill_as_described();
  std::erase_if(checkpoint.tensors, [](const auto& named) {
    return named.first.find("post_attention_layernorm") != std::string::npos;
  });
  EXPECT_LT(distance_from_naive(checkpoint, 16), kCacheRounding);
}

TEST(Engine, RefusesPositionsThatTheModelHasNotLearned) {
  TinyCheckpoint checkpoint;
  checkpoint.config["model_type"] = "gpt2";
  checkpoint.fill_as_described();
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(1);
  Engine engine(model, pool);
  KvCache cache(model.config, 200);
  engine.forward(random_tokens(model, 128), cache, 0);
  EXPECT_THROW(engine.forward(random_tokens(model, 1), cache, 0), Error);
}

class TinyEngine : public testing::Test {
 protected:
  TinyCheckpoint checkpoint_;
  Model model_ = open_model(checkpoint_.write());
  ThreadPool pool_{2};
};

TEST_F(TinyEngine, GivesTheSameForOneTokenAtATimeAndForPieces) {
  Engine engine(model_, pool_, {.batch = 8});
  const std::vector<Token> tokens = random_tokens(model_, 30);
  const std::vector<float> whole = all_logits(engine, tokens);
  EXPECT_LT(relative_distance(whole, all_logits(engine, tokens, std::vector<int64_t>(30, 1))),
            kOrderRounding);
  EXPECT_LT(relative_distance(whole, all_logits(engine, tokens, {13, 1, 16})), kOrderRounding);
}

TEST_F(TinyEngine, GivesTheSameBitsForAnyNumberOfThreads) {
  const std::vector<Token> tokens = random_tokens(model_, 100);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    Engine engine(model_, pool);
    results.push_back(all_logits(engine, tokens));
    results.push_back(all_logits(engine, tokens, std::vector<int64_t>(100, 1)));
  }
  for (size_t i = 2; i < results.size(); ++i) EXPECT_EQ(results[i], results[i % 2]);
}

TEST_F(TinyEngine, GoesOnAfterTruncation) {
  Engine engine(model_, pool_);
  const std::vector<Token> tokens = random_tokens(model_, 20), other = random_tokens(model_, 20, 8);
  KvCache cache(model_.config, 20);
  engine.forward(other, cache, 0);
  cache.truncate(0);
  engine.forward(std::span(tokens).first(12), cache, 0);
  engine.forward(std::span(other).first(8), cache, 1);
  cache.truncate(12);
  const auto last = engine.forward(std::span(tokens).last(8), cache, 1);
  EXPECT_THAT(cache.tokens(), testing::ElementsAreArray(tokens));
  const std::vector<float> resumed(last.begin(), last.end());
  KvCache fresh(model_.config, 20);
  const auto again = engine.forward(tokens, fresh, 1);
  EXPECT_LT(relative_distance(std::vector<float>(again.begin(), again.end()), resumed),
            kOrderRounding);
}

TEST_F(TinyEngine, ReturnsTheLastRowsAcrossPasses) {
  Engine engine(model_, pool_, {.batch = 8});
  const std::vector<Token> tokens = random_tokens(model_, 21);
  KvCache first(model_.config, 21), second(model_.config, 21);
  const auto all = engine.forward(tokens, first, 21);
  const std::vector<float> kept(all.end() - 10 * model_.config.hidden, all.end());
  const auto last = engine.forward(tokens, second, 10);
  EXPECT_THAT(kept, testing::ElementsAreArray(last));
}

TEST_F(TinyEngine, CountsTheBytesOfOneToken) {
  const Engine engine(model_, pool_);
  // All matrices but the embedding in F32, of which one row, and the norms.
  const int64_t hidden = 48, ffn = 80, kv = 16;
  const int64_t layer = 2 * hidden * hidden + 2 * kv * hidden + 3 * ffn * hidden + 2 * hidden;
  const int64_t values = 2 * layer + hidden + hidden + model_.config.vocabulary * hidden;
  EXPECT_GE(engine.weight_bytes(), 4 * values);
  EXPECT_LT(engine.weight_bytes(), 4 * values * 5 / 4);  // panels may be padded
}

TEST_F(TinyEngine, ShowsAnObserverWhatEachMapIsFed) {
  const LayerWeights weights = load_layer(model_, 0, {}, pool_);
  RopeTable rope({rope_frequencies(model_.config, {})}, 5);
  rope.prepare(0, 5);
  LayerBuffers buffers(model_.config, 5, pool_.threads());
  std::vector<std::pair<Role, size_t>> seen;
  Role last = Role::kDown;
  const SiteObserver observer = [&](Role site, std::span<const float> input, int64_t tokens) {
    EXPECT_EQ(tokens, 5);
    seen.emplace_back(site, input.size());
    return site != last;
  };
  LayerContext context{model_.config, rope, buffers, pool_, &observer};
  std::vector<float> hidden(5 * 48, 0.5f);
  KvCache cache(model_.config, 5);
  forward_layer(weights, hidden, cache.layer(0), context);
  EXPECT_THAT(seen, testing::ElementsAre(std::pair(Role::kQuery, size_t{5 * 48}),
                                         std::pair(Role::kAttentionOutput, size_t{5 * 48}),
                                         std::pair(Role::kGate, size_t{5 * 48}),
                                         std::pair(Role::kDown, size_t{5 * 80})));
  seen.clear();
  last = Role::kAttentionOutput;
  std::fill(hidden.begin(), hidden.end(), 0.5f);
  forward_layer(weights, hidden, cache.layer(0), context);
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_THAT(hidden, testing::Each(0.5f));
}

TEST_F(TinyEngine, RefusesAContextThatNoMemoryHolds) {
  EXPECT_THROW(KvCache(model_.config, int64_t{1} << 50), Error);
  EXPECT_THROW(KvCache(model_.config, int64_t{1} << 62), Error);
}

TEST(Rope, TurnsByPositionTimesFrequency) {
  ModelConfig config;
  config.head_dim = 64;
  config.rope_theta = 500000;
  RopeTable table({rope_frequencies(config, {})}, 3);
  table.prepare(131070, 3);
  for (int i = 0; i < 32; ++i) {
    const double angle = 131072 * std::pow(500000, -i / 32.0);
    EXPECT_NEAR(table.cosines(2)[i], std::cos(angle), 1e-6);
    EXPECT_NEAR(table.sines(2)[i], std::sin(angle), 1e-6);
  }
}

}  // namespace
}  // namespace fewbits
