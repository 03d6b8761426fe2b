#include "engine/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/error.h"
#include "engine/engine.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

class CodedCache : public testing::Test {
 protected:
  CodedCache() {
    std::mt19937 random(4);
    for (int i = 0; i < 128; ++i) {
      tokens_.push_back(
          static_cast<Token>(random() % static_cast<unsigned>(model_.config.vocabulary)));
    }
  }

  std::vector<float> last_state(KvCache& cache, int64_t begin, int64_t pass) {
    std::vector<float> state;
    while (begin < std::ssize(tokens_)) {
      const int64_t count = std::min(pass, std::ssize(tokens_) - begin);
      const auto rows = engine_.forward(
          std::span(tokens_).subspan(static_cast<size_t>(begin), static_cast<size_t>(count)), cache,
          1);
      state.assign(rows.begin(), rows.end());
      begin += count;
    }
    return state;
  }

  std::vector<float> exact() {
    KvCache cache(model_.config, std::ssize(tokens_));
    return last_state(cache, 0, 64);
  }

  static double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double difference = 0, total = 0;
    for (size_t i = 0; i < a.size(); ++i) {
      difference += std::pow(double{a[i]} - double{b[i]}, 2);
      total += std::pow(double{b[i]}, 2);
    }
    return std::sqrt(difference / total);
  }

  static KvOptions with(std::string_view formats, int64_t oldest, int64_t recent) {
    KvOptions options = kv_options(formats);
    options.oldest = oldest;
    options.recent = recent;
    return options;
  }

  TinyCheckpoint checkpoint_;
  Model model_ = open_model(checkpoint_.write());
  ThreadPool pool_{2};
  Engine engine_{model_, pool_};
  std::vector<Token> tokens_;
};

TEST_F(CodedCache, EveryFormatIsCloseToHalves) {
  const std::vector<float> want = exact();
  const auto off = [&](const std::string& formats) {
    KvCache cache(model_.config, std::ssize(tokens_), with(formats, 0, 0));
    return distance(last_state(cache, 0, 20), want);
  };
  for (const KvFormat& format : kv_formats()) {
    const double bound = format.bits == 16 ? 0.01 : format.bits == 8 ? 0.05 : 1;
    const std::string name(format.name);
    EXPECT_LT(off(format.for_values ? name : name + ":q8_0"), bound) << name;
  }
  EXPECT_LT(off("turbo4:q8_0"), off("turbo2:q8_0"));
}

TEST_F(CodedCache, TokensAtBothEndsMayStayHalves) {
  const std::vector<float> want = exact();
  for (const int64_t oldest : {0, 1, 4, 16, 40, 200}) {
    for (const int64_t recent : {0, 10, 64, 200}) {
      KvCache cache(model_.config, std::ssize(tokens_), with("q8_0", oldest, recent));
      const double off = distance(last_state(cache, 0, 7), want);
      // Nothing was coded where these leave no whole chunk.
      const double bound = oldest + recent > 128 - 32 ? 1e-3 : 0.05;
      EXPECT_LT(off, bound) << oldest << ", " << recent;
    }
  }
}

TEST_F(CodedCache, HalvesThatAreCodedMakeRoomForNewOnes) {
  const std::vector<float> want = exact();
  KvOptions options = with("q8_0", 4, 8);
  options.most_pass = 16;
  KvCache cache(model_.config, 4096, options);
  std::vector<Token> once = tokens_;
  for (int i = 0; i < 5; ++i) tokens_.insert(tokens_.end(), once.begin(), once.end());
  KvCache halves(model_.config, 4096);
  EXPECT_LT(distance(last_state(cache, 0, 64), last_state(halves, 0, 64)), 0.05);
}

TEST_F(CodedCache, GoesOnAfterTruncation) {
  const std::vector<float> want = exact();
  KvOptions options = with("q8_0", 4, 8);
  options.most_pass = 8;
  for (const int64_t kept : {0, 3, 4, 20, 36, 90, 100, 127}) {
    KvCache cache(model_.config, std::ssize(tokens_), options);
    last_state(cache, 0, 8);
    cache.truncate(kept);
    EXPECT_EQ(cache.length(), kept);
    EXPECT_LT(distance(last_state(cache, kept, 5), want), 0.05) << kept;
  }
}

TEST_F(CodedCache, SeveralSequencesAtOnceAreEachAsAlone) {
  std::vector<KvCache> together, alone;
  const int64_t lengths[] = {0, 3, 40, 700};
  const char* formats[] = {"f16", "turbo3:turbo2", "q8_0", "f16"};
  std::vector<Token> long_text;
  for (int i = 0; i < 6; ++i) long_text.insert(long_text.end(), tokens_.begin(), tokens_.end());
  for (size_t i = 0; i < 4; ++i) {
    for (std::vector<KvCache>* caches : {&together, &alone}) {
      caches->emplace_back(model_.config, 800, kv_options(formats[i]));
      engine_.forward(std::span(long_text).first(static_cast<size_t>(lengths[i])), caches->back(),
                      0);
    }
  }
  std::vector<KvCache*> each;
  for (KvCache& cache : together) each.push_back(&cache);
  for (size_t step = 0; step < 3; ++step) {
    const std::span<const Token> next = std::span(tokens_).subspan(10 * step, 4);
    const auto rows = engine_.forward_each(next, each);
    const std::vector<float> have(rows.begin(), rows.end());
    for (size_t i = 0; i < 4; ++i) {
      const auto row = engine_.forward(next.subspan(i, 1), alone[i], 1);
      const std::vector<float> want(row.begin(), row.end());
      const auto first = have.begin() + std::ssize(want) * static_cast<int64_t>(i);
      // The same sums, but for products that take several rows at once another way.
      EXPECT_LT(distance({first, first + std::ssize(want)}, want), 1e-3) << formats[i];
      EXPECT_EQ(together[i].length(), alone[i].length());
    }
  }
}

TEST_F(CodedCache, DependsOnNoThreadCount) {
  std::vector<std::vector<float>> states;
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    Engine engine(model_, pool);
    KvCache cache(model_.config, 200, with("turbo3:turbo2", 4, 8));
    const auto rows = engine.forward(tokens_, cache, 3);
    states.emplace_back(rows.begin(), rows.end());
  }
  EXPECT_EQ(states[0], states[1]);
  EXPECT_EQ(states[0], states[2]);
}

TEST_F(CodedCache, MemoryOfATokenIsAsComputed) {
  const auto& config = model_.config;
  const auto heads = static_cast<double>(config.layers * config.kv_heads);
  const auto bytes = [&](std::string_view formats) {
    return KvCache(config, 4096, with(formats, 0, 0)).position_bytes() / heads;
  };
  // Heads of 8 are padded to 32 where they are coded.
  EXPECT_EQ(bytes("f16"), 2 * 8 * 2);
  EXPECT_EQ(bytes("q8_0"), 2 * 34);
  EXPECT_EQ(bytes("turbo3:turbo2"), 32 * 5 / 8.0 + 2 * 2);
  const KvCache cache(config, 4096, with("q8_0", 0, 0));
  EXPECT_EQ(cache.bytes_read(320), static_cast<int64_t>(320 * heads * 2 * 34));
  EXPECT_EQ(cache.bytes_read(330), static_cast<int64_t>(heads * (320 * 2 * 34 + 10 * 2 * 8 * 2)));
}

TEST(KvOptions, AreReadFromText) {
  EXPECT_FALSE(kv_options("f16").coded());
  const KvOptions options = kv_options("turbo3:turbo2");
  EXPECT_EQ(options.key, "turbo3");
  EXPECT_EQ(options.value, "turbo2");
  EXPECT_TRUE(options.coded());
  EXPECT_EQ(options.oldest, 4);
  for (const char* text : {"", "q8", "q8_0:", ":f16", "qjl3", "f16:f16:f16"}) {
    EXPECT_THROW(kv_options(text), Error) << text;
  }
}

}  // namespace
}  // namespace fewbits
