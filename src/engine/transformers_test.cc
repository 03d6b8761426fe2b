#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/source_dir.h"
#include "engine/engine.h"
#include "model/tiny_checkpoint.h"

// What transformers computes for tiny folders that it wrote itself, kept by
// tests/interop/transformers_logits.py: names, row orders and config keys are its own.
namespace fewbits {
namespace {

/// A tensor's values, which follow from its name: evenly spread numbers from a counter through
/// SplitMix64's mixer, which begins at the name's FNV-1a hash.
std::vector<float> values_of(const std::string& name, size_t count, double mean, double deviation) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char letter : name) {
    hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001B3u;
  }
  std::vector<float> values;
  for (uint64_t i = 1; i <= count; ++i) {
    uint64_t x = hash + i * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    const double unit = static_cast<double>((x ^ (x >> 31)) >> 40) / 8388608 - 1;
    values.push_back(static_cast<float>(mean + deviation * std::sqrt(3.0) * unit));
  }
  return values;
}

void fill(TinyCheckpoint& checkpoint, const Json& golden) {
  checkpoint.config = golden.at("config");
  checkpoint.tensors.clear();
  for (const auto& [name, described] : golden.at("tensors").items()) {
    const auto shape = described.at(0).get<Shape>();
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    checkpoint.tensors[name] = {
        shape, values_of(name, static_cast<size_t>(count), described.at(1).get<double>(),
                         described.at(2).get<double>())};
  }
}

/// Logits of the last token, or the hidden state where the model is no decoder.
std::vector<float> last_row(const Model& model, const std::vector<Token>& tokens) {
  ThreadPool pool(2);
  Engine engine(model, pool);
  const auto count = static_cast<int64_t>(tokens.size());
  KvCache cache(model.config, count);
  const auto state = engine.forward(tokens, cache, 1);
  if (!model.config.design.causal) return {state.begin(), state.end()};
  std::vector<float> logits(static_cast<size_t>(model.config.vocabulary));
  engine.logits(state, 1, logits.data());
  return logits;
}

TEST(Transformers, ComputesTheSame) {
  constexpr double kBound = 2e-3;  // keys and values in halves, golden values of four digits
  const auto folder = source_dir() / "tests/golden/engine/transformers";
  size_t cases = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".json") continue;
    SCOPED_TRACE(file.path().filename().string());
    const Json golden = read_json_file(file.path());
    TinyCheckpoint checkpoint;
    fill(checkpoint, golden);
    const Model model = open_model(checkpoint.write());
    const auto ours = last_row(model, golden.at("tokens").get<std::vector<Token>>());
    const auto theirs = golden.at("last_row").get<std::vector<float>>();
    ASSERT_EQ(ours.size(), theirs.size());
    float largest = 0, difference = 0;
    for (size_t i = 0; i < ours.size(); ++i) {
      largest = std::max(largest, std::abs(theirs[i]));
      difference = std::max(difference, std::abs(ours[i] - theirs[i]));
    }
    EXPECT_LT(difference / largest, kBound);
    ++cases;
  }
  EXPECT_GE(cases, 20u);
}

}  // namespace
}  // namespace fewbits
