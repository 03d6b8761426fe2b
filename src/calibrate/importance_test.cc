#include "calibrate/importance.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "engine/engine.h"
#include "files/gguf.h"
#include "model/tiny_checkpoint.h"

namespace fewbits {
namespace {

std::string error_of(const std::filesystem::path& path) {
  try {
    read_importance(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Importance, OfTheFirstLayerIsTheMeanSquareOfNormedEmbeddings) {
  TinyCheckpoint checkpoint;
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(2);
  const std::vector<std::vector<Token>> samples = {{1, 2, 3, 4}, {5, 6, 7, 8}};
  const Importance importance = gather_importance(model, samples, pool);
  EXPECT_EQ(importance.entries.size(), 14u) << "seven matrices in each of two layers";
  const ImportanceEntry& query = importance.entries.at("blk.0.attn_q.weight");
  EXPECT_EQ(query.tokens, std::vector<float>{8});
  std::vector<double> expected(48, 0.0);
  const Weight& table = *model.find(Role::kEmbedding);
  std::vector<float> row(48), gain(48);
  model.find(Role::kAttentionNorm, 0)->read_row(0, gain.data());
  for (const auto& sample : samples) {
    for (const Token token : sample) {
      table.read_row(token, row.data());
      double square = 0;
      for (const float value : row) square += double{value} * value / 48;
      for (size_t j = 0; j < 48; ++j) {
        expected[j] += double{row[j]} * row[j] * gain[j] * gain[j] / (square + 1e-5) / 8;
      }
    }
  }
  const std::vector<float> means = query.means(0);
  for (size_t j = 0; j < 48; ++j) EXPECT_NEAR(means[j], expected[j], 1e-4 * expected[j]);
  EXPECT_EQ(importance.entries.at("blk.0.attn_v.weight").sums, query.sums) << "the same input";
}

TEST(Importance, EachExpertHasItsOwnTokens) {
  TinyCheckpoint checkpoint;
  checkpoint.config.update(
      {{"model_type", "mixtral"}, {"num_local_experts", 5}, {"num_experts_per_tok", 2}});
  checkpoint.fill_as_described();
  const Model model = open_model(checkpoint.write());
  ThreadPool pool(2);
  const std::vector<std::vector<Token>> samples = {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10}};
  const Importance importance = gather_importance(model, samples, pool);
  const ImportanceEntry& gate = importance.entries.at("blk.1.ffn_gate_exps.weight");
  EXPECT_EQ(gate.matrices(), 5);
  float visits = 0;
  for (const float tokens : gate.tokens) visits += tokens;
  EXPECT_EQ(visits, 2 * 10) << "each token goes to two experts";
  EXPECT_EQ(importance.entries.at("blk.1.ffn_up_exps.weight").sums, gate.sums) << "the same input";
  EXPECT_EQ(importance.entries.at("blk.1.ffn_down_exps.weight").tokens, gate.tokens);
  const auto starved = starved_experts(importance);
  EXPECT_EQ(starved.size(), 2u * 3 * 5) << "ten tokens are enough for none";
}

TEST(Importance, FilesAreReadAsTheyWereWritten) {
  TinyCheckpoint checkpoint;
  Importance written{.entries = {}, .texts = {"a.txt"}, .samples = 3, .sample_length = 512};
  written.entries["blk.0.attn_q.weight"] = {{1, 2, 3, 4}, {2}};
  written.entries["blk.0.ffn_gate_exps.weight"] = {{1, 2, 3, 4, 5, 6}, {2, 0}};
  const auto path = checkpoint / "importance.gguf";
  write_importance(written, path);
  const Importance read = read_importance(path);
  EXPECT_EQ(read.texts, written.texts);
  EXPECT_EQ(read.samples, 3);
  ASSERT_EQ(read.entries.size(), 2u);
  const ImportanceEntry& experts = read.entries.at("blk.0.ffn_gate_exps.weight");
  EXPECT_EQ(experts.matrices(), 2);
  EXPECT_EQ(experts.means(0), (std::vector<float>{0.5f, 1, 1.5f}));
  EXPECT_EQ(experts.means(1), (std::vector<float>{1, 1, 1})) << "it has seen nothing";
}

TEST(Importance, OtherFilesAndBadValuesAreRefused) {
  TinyCheckpoint checkpoint;
  const auto path = checkpoint / "importance.gguf";
  Importance bad;
  bad.entries["blk.0.attn_q.weight"] = {{1, -2}, {2}};
  write_importance(bad, path);
  EXPECT_NE(error_of(path).find("negative or not finite"), std::string::npos) << error_of(path);
  write_importance({}, path);
  EXPECT_NE(error_of(path).find("no entries"), std::string::npos) << error_of(path);
  Metadata metadata;
  metadata.set_string("general.type", "model");
  GgufWriter(path, metadata, {}).commit();
  EXPECT_NE(error_of(path).find("no importance matrix"), std::string::npos) << error_of(path);
}

}  // namespace
}  // namespace fewbits
