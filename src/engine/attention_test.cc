#include "engine/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/half.h"

namespace fewbits {
namespace {

constexpr int64_t kHeads = 6, kKvHeads = 2, kDim = 16;

ModelConfig config() {
  ModelConfig config;
  config.layers = 1;
  config.heads = kHeads;
  config.kv_heads = kKvHeads;
  config.head_dim = kDim;
  return config;
}

/// A cache whose first `length` positions are random, and queries for the tokens behind them.
struct Scene {
  Scene(int64_t length, int64_t tokens) : cache(config(), length + tokens), tokens(tokens) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const LayerCache layer = cache.layer(0);
    for (int64_t head = 0; head < kKvHeads; ++head) {
      for (int64_t j = 0; j < length + tokens; ++j) {
        for (int64_t d = 0; d < kDim; ++d) {
          layer.key(head, j)[d * kKeysPerGroup] = half_from_float(normal(random));
          layer.value(head, j)[d] = half_from_float(normal(random));
        }
      }
    }
    cache.append(std::vector<Token>(static_cast<size_t>(length)));
    queries.resize(static_cast<size_t>(tokens * kHeads * kDim));
    for (float& value : queries) value = normal(random);
  }

  std::vector<float> attend(int threads, int64_t window = 0) {
    ThreadPool pool(threads);
    Attention attention(config(), threads);
    std::vector<float> out(queries.size());
    const LayerCache layer = cache.layer(0);
    attention.run({queries.data(), tokens, window, out.data()}, {&layer, 1}, pool);
    return out;
  }

  /// Dimension `d` of one head of one token, by the definition.
  double expected(int64_t token, int64_t head, int64_t d, int64_t window) {
    const LayerCache layer = cache.layer(0);
    const int64_t kv_head = head / (kHeads / kKvHeads), end = layer.length + token + 1;
    const int64_t begin = window > 0 ? std::max<int64_t>(0, end - window) : 0;
    const float* query = queries.data() + (token * kHeads + head) * kDim;
    double total = 0, sum = 0;
    for (int64_t j = begin; j < end; ++j) {
      double score = 0;
      for (int64_t i = 0; i < kDim; ++i) {
        score += double{query[i]} * half_to_float(layer.key(kv_head, j)[i * kKeysPerGroup]);
      }
      const double weight = std::exp(score / std::sqrt(kDim));
      total += weight;
      sum += weight * half_to_float(layer.value(kv_head, j)[d]);
    }
    return sum / total;
  }

  KvCache cache;
  int64_t tokens;
  std::vector<float> queries;
};

void expect_the_definition(int64_t length, int64_t tokens, int64_t window = 0) {
  Scene scene(length, tokens);
  const auto out = scene.attend(2, window);
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t head = 0; head < kHeads; ++head) {
      for (int64_t d = 0; d < kDim; ++d) {
        ASSERT_NEAR(out[static_cast<size_t>((token * kHeads + head) * kDim + d)],
                    scene.expected(token, head, d, window), 2e-5)
            << length << " cached, token " << token << " of " << tokens << ", head " << head;
      }
    }
  }
}

TEST(AttentionPass, OneTokenBehindAnyLength) {
  for (const int64_t length : {0, 1, 15, 16, 511, 512, 513, 1300}) expect_the_definition(length, 1);
}

TEST(AttentionPass, FewAndManyTokensBehindALongContext) {
  for (const int64_t tokens : {2, 5, 21, 22, 60}) expect_the_definition(1300, tokens);
}

TEST(AttentionPass, AWindowMayHideWholeParts) {
  for (const int64_t window : {1, 100, 513, 1000}) expect_the_definition(1300, 3, window);
}

/// A key among 8192 others that one query asks for: how much of its value comes back. Keys have a
/// mean, as those of models have.
class PlantedKey {
 public:
  static constexpr int64_t kTokens = 8192, kPass = 512, kWide = 64;

  PlantedKey() {
    model_.layers = model_.heads = model_.kv_heads = 1;
    model_.head_dim = kWide;
    std::normal_distribution<float> normal;
    std::mt19937 random(11);
    for (std::vector<float>* rows : {&keys_, &values_}) {
      rows->resize(static_cast<size_t>(kTokens * kWide));
      for (float& value : *rows) value = normal(random);
    }
    for (float& value : mean_) value = 2 * normal(random);
  }

  std::vector<float> retrieve(const std::string& formats, int64_t planted) {
    KvCache cache(model_, kTokens + 1, kv_options(formats));
    Attention attention(model_, 2);
    std::vector<float> query(static_cast<size_t>(kPass * kWide)), out(query.size());
    while (cache.length() < kTokens) run(attention, cache, kPass, query, out, 1);
    // Its score stands 12 above the mean of the others, which have a deviation of 1.5.
    const float* key = keys_.data() + planted * kWide;
    for (int64_t d = 0; d < kWide; ++d)
      query[static_cast<size_t>(d)] = 1.5f * key[d] + 0.2f * mean_[d];
    run(attention, cache, 1, query, out, 0);
    return {out.begin(), out.begin() + kWide};
  }

  /// Along the planted value: 1 where nothing else is seen.
  double share(const std::vector<float>& out, int64_t planted) const {
    const float* value = values_.data() + planted * kWide;
    double together = 0, square = 0;
    for (size_t d = 0; d < out.size(); ++d) {
      together += double{out[d]} * double{value[d]};
      square += double{value[d]} * double{value[d]};
    }
    return together / square;
  }

 private:
  void run(Attention& attention, KvCache& cache, int64_t tokens, const std::vector<float>& query,
           std::vector<float>& out, int64_t window) {
    const LayerCache layer = cache.layer(0);
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t row = std::min(cache.length() + t, kTokens - 1) * kWide;
      for (int64_t d = 0; d < kWide; ++d) {
        layer.key(0, cache.length() + t)[d * kKeysPerGroup] =
            half_from_float(keys_[static_cast<size_t>(row + d)] + mean_[d]);
        layer.value(0, cache.length() + t)[d] =
            half_from_float(values_[static_cast<size_t>(row + d)]);
      }
    }
    attention.run({query.data(), tokens, window, out.data()}, {&layer, 1}, pool_);
    cache.append(std::vector<Token>(static_cast<size_t>(tokens)));
  }

  ModelConfig model_;
  ThreadPool pool_{2};
  std::vector<float> keys_, values_;
  float mean_[kWide] = {};
};

TEST(AttentionPass, APlantedKeyIsFoundAmongEightThousandInEveryFormat) {
  PlantedKey scene;
  for (const int64_t planted : {1000, 7000}) {
    const double want = scene.share(scene.retrieve("f16", planted), planted);
    EXPECT_GT(want, 0.8);
    for (const char* formats : {"q8_0", "fp8", "q4_0", "turbo4", "turbo3", "turbo3:turbo2",
                                "turbo2", "qjl4:turbo3", "kivi4", "kivi2"}) {
      const double have = scene.share(scene.retrieve(formats, planted), planted);
      // Values of 2 bits have lost a ninth of their square.
      EXPECT_NEAR(have, want, 0.2) << formats << " at " << planted;
    }
  }
}

TEST(AttentionPass, PartsDependOnNoThreadCount) {
  Scene scene(2000, 2);
  const auto one = scene.attend(1);
  EXPECT_EQ(one, scene.attend(2));
  EXPECT_EQ(one, scene.attend(7));
}

}  // namespace
}  // namespace fewbits
