#include "pipeline/mix.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace fewbits {
namespace {

ModelConfig config_of(int64_t layers, int64_t heads, int64_t kv_heads) {
  ModelConfig config;
  config.layers = layers;
  config.heads = heads;
  config.kv_heads = kv_heads;
  return config;
}

/// The layers that get `format` for `role`.
std::vector<int64_t> layers_with(std::string_view mix, Role role, std::string_view format,
                                 const ModelConfig& config) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    const Format& given = mix_format(mix_named(mix), role, layer, 4096, {.config = &config});
    if (given.name == format) layers.push_back(layer);
  }
  return layers;
}

TEST(Mix, TableIsSortedAndItsFormatsExist) {
  const auto all = mixes();
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(),
                             [](const Mix& a, const Mix& b) { return a.name < b.name; }));
  for (const Mix& mix : all) {
    EXPECT_NE(find_format(mix.base), nullptr) << mix.name;
    for (const MixRule& rule : mix.rules) EXPECT_NE(find_format(rule.format), nullptr) << mix.name;
  }
}

TEST(Mix, NamesIgnoreCaseAndKnowTheShortForms) {
  EXPECT_EQ(mix_named("q4_k_m").name, "Q4_K_M");
  EXPECT_EQ(mix_named("Q4_K").name, "Q4_K_M");
  EXPECT_EQ(mix_named("Q3_K").name, "Q3_K_M");
  EXPECT_THROW(mix_named("Q9_K"), Error);
}

TEST(Mix, Q4KMGivesSensitiveLayersMoreBits) {
  const ModelConfig config = config_of(16, 32, 8);
  const std::vector<int64_t> sensitive = {0, 1, 4, 7, 10, 13, 14, 15};
  EXPECT_EQ(layers_with("Q4_K_M", Role::kDown, "Q6_K", config), sensitive);
  EXPECT_EQ(layers_with("Q4_K_M", Role::kValue, "Q6_K", config), sensitive);
  EXPECT_EQ(layers_with("Q4_K_M", Role::kQuery, "Q4_K", config).size(), 16u);
}

TEST(Mix, ValuesKeepMoreBitsWhereOthersHaveTwo) {
  EXPECT_EQ(layers_with("IQ2_XS", Role::kValue, "Q2_K", config_of(8, 9, 3)).size(), 8u);
  EXPECT_EQ(layers_with("IQ2_XS", Role::kValue, "Q4_K", config_of(8, 32, 8)).size(), 8u);
  EXPECT_EQ(layers_with("IQ2_XS", Role::kDown, "Q2_K", config_of(16, 9, 3)).size(), 2u);
  EXPECT_EQ(layers_with("IQ2_S", Role::kAttentionOutput, "IQ3_S", config_of(8, 9, 3)).size(), 8u);
  EXPECT_EQ(layers_with("IQ3_XS", Role::kUp, "IQ3_XXS", config_of(16, 9, 3)).size(), 12u);
  const ModelConfig config = config_of(8, 9, 3);
  EXPECT_EQ(mix_format(mix_named("IQ1_S"), Role::kOutput, -1, 4096, {.config = &config}).name,
            "Q5_K");
  EXPECT_EQ(format_for_columns(format_named("IQ2_XS"), 576).name, "IQ4_NL");
}

TEST(Mix, GroupedQueriesRaiseTheValueMatrixOfQ2K) {
  EXPECT_EQ(layers_with("Q2_K", Role::kValue, "Q4_K", config_of(8, 32, 8)).size(), 8u);
  EXPECT_EQ(layers_with("Q2_K", Role::kValue, "Q3_K", config_of(8, 9, 3)).size(), 8u);
}

TEST(Mix, ImportanceWeightsChangeTheFirstDownMatrices) {
  const ModelConfig config = config_of(32, 8, 8);
  const auto format = [&](std::string_view mix, bool weighted) {
    return mix_format(mix_named(mix), Role::kDown, 0, 4096,
                      {.config = &config, .weighted = weighted})
        .name;
  };
  EXPECT_EQ(format("IQ4_XS", false), "Q5_K");
  EXPECT_EQ(format("IQ4_XS", true), "IQ4_XS");
  EXPECT_EQ(format("Q4_0", false), "Q4_0");
  EXPECT_EQ(format("Q4_0", true), "Q4_1");
}

TEST(Mix, OutputLayerAndTiedEmbedding) {
  ModelConfig config = config_of(8, 8, 8);
  const auto format = [&](std::string_view mix, Role role, int64_t columns) {
    return mix_format(mix_named(mix), role, -1, columns, {.config = &config}).name;
  };
  EXPECT_EQ(format("Q4_K_M", Role::kOutput, 4096), "Q6_K");
  EXPECT_EQ(format("Q4_K_M", Role::kOutput, 576), "Q8_0");
  EXPECT_EQ(format("Q4_0", Role::kOutput, 576), "Q6_K");
  EXPECT_EQ(format("Q8_0", Role::kOutput, 576), "Q8_0");
  EXPECT_EQ(format("F16", Role::kOutput, 576), "F16");
  EXPECT_EQ(format("Q4_K_M", Role::kEmbedding, 4096), "Q4_K");
  config.tied_embeddings = true;
  EXPECT_EQ(format("Q4_K_M", Role::kEmbedding, 4096), "Q6_K");
}

TEST(Mix, RowsThatAreNoWholeBlocksFallBack) {
  EXPECT_EQ(format_for_columns(format_named("Q4_K"), 512).name, "Q4_K");
  EXPECT_EQ(format_for_columns(format_named("Q4_K"), 576).name, "Q5_0");
  EXPECT_EQ(format_for_columns(format_named("Q2_K"), 576).name, "Q4_0");
  EXPECT_EQ(format_for_columns(format_named("IQ4_XS"), 576).name, "IQ4_NL");
  EXPECT_EQ(format_for_columns(format_named("Q6_K"), 576).name, "Q8_0");
  EXPECT_EQ(format_for_columns(format_named("Q6_K"), 100).name, "F16");
  EXPECT_EQ(format_for_columns(format_named("Q4_0"), 100).name, "F16");
}

}  // namespace
}  // namespace fewbits
