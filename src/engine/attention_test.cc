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

TEST(AttentionPass, PartsDependOnNoThreadCount) {
  Scene scene(2000, 2);
  const auto one = scene.attend(1);
  EXPECT_EQ(one, scene.attend(2));
  EXPECT_EQ(one, scene.attend(7));
}

}  // namespace
}  // namespace fewbits
