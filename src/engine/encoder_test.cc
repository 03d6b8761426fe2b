#include "engine/encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

using ::testing::HasSubstr;
using Row = std::vector<double>;

/// A random BERT, 2 layers, 48 wide, 6 heads; `unused` rows of the position table before the first.
void make_bert(TinyCheckpoint& checkpoint, int64_t unused = 0) {
  auto& config = checkpoint.config;
  config = {{"model_type", unused > 0 ? "roberta" : "bert"},
            {"hidden_size", 48},
            {"intermediate_size", 80},
            {"num_hidden_layers", 2},
            {"num_attention_heads", 6},
            {"vocab_size", checkpoint.vocabulary()},
            {"max_position_embeddings", 24 + unused},
            {"type_vocab_size", 2},
            {"pad_token_id", unused - 1},
            {"layer_norm_eps", 1e-12},
            {"hidden_act", "gelu"}};
  checkpoint.tensors.clear();
  const auto map = [&](const std::string& name, int64_t rows, int64_t columns) {
    checkpoint.add(name + ".weight", {rows, columns}, 0.5f);
    checkpoint.add(name + ".bias", {rows}, 1);
  };
  const auto norm = [&](const std::string& name) {
    checkpoint.add(name + ".weight", {48}, 1);
    checkpoint.add(name + ".bias", {48}, 1);
  };
  checkpoint.add("embeddings.word_embeddings.weight", {checkpoint.vocabulary(), 48}, 2);
  checkpoint.add("embeddings.position_embeddings.weight", {24 + unused, 48}, 2);
  checkpoint.add("embeddings.token_type_embeddings.weight", {2, 48}, 2);
  norm("embeddings.LayerNorm");
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = fmt::format("encoder.layer.{}.", layer);
    for (const char* name : {"query", "key", "value"}) {
      map(prefix + "attention.self." + name, 48, 48);
    }
    map(prefix + "attention.output.dense", 48, 48);
    norm(prefix + "attention.output.LayerNorm");
    map(prefix + "intermediate.dense", 80, 48);
    map(prefix + "output.dense", 48, 80);
    norm(prefix + "output.LayerNorm");
  }
}

/// BERT as its paper writes it, in double, without any care for speed.
class NaiveBert {
 public:
  explicit NaiveBert(const TinyCheckpoint& checkpoint) : checkpoint_(checkpoint) {}

  std::vector<Row> states(const std::vector<Token>& tokens, int64_t unused) const {
    std::vector<Row> x;
    for (size_t t = 0; t < tokens.size(); ++t) {
      Row row = row_of("embeddings.word_embeddings.weight", tokens[t]);
      add(row, row_of("embeddings.position_embeddings.weight", static_cast<int64_t>(t) + unused));
      add(row, row_of("embeddings.token_type_embeddings.weight", 0));
      x.push_back(norm("embeddings.LayerNorm", row));
    }
    for (int layer = 0; layer < 2; ++layer) {
      forward(fmt::format("encoder.layer.{}.", layer), x);
    }
    return x;
  }

 private:
  Row row_of(const std::string& name, int64_t row) const {
    const auto& tensor = checkpoint_.tensors.at(name);
    const int64_t columns = tensor.shape.back();
    const auto begin = tensor.values.begin() + row * columns;
    return {begin, begin + columns};
  }

  static void add(Row& x, const Row& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  Row norm(const std::string& name, const Row& x) const {
    double mean = 0, square = 0;
    for (const double value : x) mean += value / 48;
    for (const double value : x) square += (value - mean) * (value - mean) / 48;
    const Row gain = row_of(name + ".weight", 0), bias = row_of(name + ".bias", 0);
    Row out;
    for (size_t i = 0; i < x.size(); ++i) {
      out.push_back((x[i] - mean) / std::sqrt(square + 1e-12) * gain[i] + bias[i]);
    }
    return out;
  }

  Row map(const std::string& name, const Row& x) const {
    Row out = row_of(name + ".bias", 0);
    for (size_t row = 0; row < out.size(); ++row) {
      const Row weights = row_of(name + ".weight", static_cast<int64_t>(row));
      for (size_t i = 0; i < x.size(); ++i) out[row] += weights[i] * x[i];
    }
    return out;
  }

  void forward(const std::string& prefix, std::vector<Row>& x) const {
    std::vector<Row> keys, values;
    for (const Row& row : x) {
      keys.push_back(map(prefix + "attention.self.key", row));
      values.push_back(map(prefix + "attention.self.value", row));
    }
    std::vector<Row> next;
    for (const Row& row : x) {
      const Row query = map(prefix + "attention.self.query", row);
      Row sum = map(prefix + "attention.output.dense", attend(query, keys, values));
      add(sum, row);
      sum = norm(prefix + "attention.output.LayerNorm", sum);
      Row inner = map(prefix + "intermediate.dense", sum);
      for (double& value : inner) value *= 0.5 * (1 + std::erf(value / std::sqrt(2.0)));
      Row out = map(prefix + "output.dense", inner);
      add(out, sum);
      next.push_back(norm(prefix + "output.LayerNorm", out));
    }
    x = std::move(next);
  }

  static Row attend(const Row& query, const std::vector<Row>& keys,
                    const std::vector<Row>& values) {
    Row out(48, 0.0);
    for (size_t head = 0; head < 48; head += 8) {
      Row weights;
      double total = 0;
      for (const Row& key : keys) {
        double score = 0;
        for (size_t i = head; i < head + 8; ++i) score += query[i] * key[i];
        weights.push_back(std::exp(score / std::sqrt(8.0)));
        total += weights.back();
      }
      for (size_t t = 0; t < keys.size(); ++t) {
        for (size_t i = head; i < head + 8; ++i) out[i] += weights[t] / total * values[t][i];
      }
    }
    return out;
  }

  const TinyCheckpoint& checkpoint_;
};

Row unit(Row x) {
  double square = 0;
  for (const double value : x) square += value * value;
  for (double& value : x) value /= std::sqrt(square);
  return x;
}

void expect_near(const std::vector<float>& got, const Row& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 2e-3) << i;
}

TEST(Encoder, EqualsItsDefinition) {
  for (const int64_t unused : {0, 2}) {
    TinyCheckpoint checkpoint;
    make_bert(checkpoint, unused);
    const Model model = open_model(checkpoint.write());
    EXPECT_EQ(model.config.context, 24);
    ThreadPool pool(2);
    Encoder encoder(model, pool, {.pack = {.float_math = true}});
    const auto tokens = encoder.tokens_of("a fine day");
    const auto states = NaiveBert(checkpoint).states(tokens, unused);
    Row mean(48, 0.0);
    for (const Row& state : states) {
      for (size_t i = 0; i < 48; ++i) mean[i] += state[i];
    }
    expect_near(encoder.embed("a fine day"), unit(mean));
  }
}

TEST(Encoder, PoolsAsTheModelSays) {
  TinyCheckpoint checkpoint;
  make_bert(checkpoint);
  const auto folder = checkpoint.write();
  std::filesystem::create_directory(folder / "1_Pooling");
  const auto embed = [&](const char* pooling, size_t state) {
    checkpoint.write_text("1_Pooling/config.json", pooling);
    const Model model = open_model(folder);
    ThreadPool pool(1);
    Encoder encoder(model, pool, {.pack = {.float_math = true}});
    const auto tokens = encoder.tokens_of("abc");
    const auto states = NaiveBert(checkpoint).states(tokens, 0);
    expect_near(encoder.embed("abc"), unit(state == 0 ? states.front() : states.back()));
  };
  embed(R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})", 0);
  embed(R"({"pooling_mode_lasttoken": true})", 1);
  const auto error_of = [&](const char* pooling) -> std::string {
    checkpoint.write_text("1_Pooling/config.json", pooling);
    try {
      open_model(folder);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(error_of(R"({"pooling_mode_max_tokens": true})"), HasSubstr("known: mean, cls"));
  EXPECT_THAT(error_of(R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true})"),
              HasSubstr("several ways"));
}

TEST(Encoder, MakesRoomForALongerText) {
  TinyCheckpoint checkpoint;
  make_bert(checkpoint);
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(2);
  Encoder roomy(model, pool), narrow(model, pool, {.batch = 4});
  for (const char* text : {"a", "a fine long day", "b"}) {
    EXPECT_EQ(narrow.embed(text), roomy.embed(text)) << text;
  }
}

TEST(Encoder, LongTextsAreCutAndOtherModelsRefused) {
  TinyCheckpoint checkpoint;
  make_bert(checkpoint);
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(1);
  Encoder encoder(model, pool);
  EXPECT_EQ(encoder.tokens_of(std::string(100, 'a')).size(), 24u);
  EXPECT_EQ(encoder.embed(std::string(100, 'a')), encoder.embed(std::string(200, 'a')));
  EXPECT_EQ(encoder.embed("").size(), 48u);
  const TinyCheckpoint decoder;
  const Model other = open_model(decoder.write());
  EXPECT_THROW(Encoder(other, pool), Error);
}

}  // namespace
}  // namespace fewbits
