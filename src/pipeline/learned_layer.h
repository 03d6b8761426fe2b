#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"
#include "train/layer_learning.h"

// Learned rounding of a decoder layer that GPTQ has rounded: steps on some samples, and what does
// best on others is kept.
namespace fewbits {

struct LearningOptions {
  int64_t steps = 0;  ///< for each layer; 0: none
  int64_t batch = 4;  ///< samples in a step
  /// First rates, which fall to 0 evenly: of places in steps between levels, and of log scales.
  double place_rate = 0.01;
  double scale_rate = 0.001;
  double held_out = 0.125;  ///< of the samples, not learned from: what does best on them is kept

  bool wanted() const { return steps > 0; }
};

/// "" where roundings of the model's layers can be learned, else what stands in the way.
std::string why_not_learnable(const Model& model);

/// One matrix as it was rounded, rows in GGUF's order.
struct RoundedMatrix {
  const Weight* weight;
  const Format* format;
  std::vector<float> best;  ///< where each weight should be while the others are as they are
  std::span<const std::byte> bytes;
};

/// A layer as it was rounded, and where samples of it come from.
struct RoundedLayer {
  const Model& model;
  int64_t index;
  std::vector<float> attention_norm = {}, mlp_norm = {};  ///< as they are now
  std::vector<RoundedMatrix> matrices = {};               ///< the others are the model's
  std::vector<int64_t> lengths = {};                      ///< of the samples, in tokens
  /// [tokens][hidden] of a sample: what the layer is fed, and what the 16-bit layer gave.
  std::function<std::vector<float>(int64_t sample)> input = {}, wanted = {};
  /// What the layer gives as the engine computes it, to compare with.
  std::function<std::vector<float>(int64_t sample)> output = {};
};

struct LearnedLayer {
  std::map<Role, std::vector<std::byte>> bytes;  ///< empty: nothing did better
  double before = 0, after = 0;                  ///< loss on the samples held out
  std::string warning;                           ///< why nothing was learned; "" where it was
};

/// Called now and then.
using LearningProgress = std::function<void(int64_t step, double loss)>;

LearnedLayer learn_layer(RoundedLayer layer, const LearningOptions& options, ThreadPool& pool,
                         const LearningProgress& progress);

/// What learning takes for samples of this many tokens, in bytes, besides the layer's matrices in
/// the formats that they had and have: what was rounded is kept until all of the layer is.
int64_t learning_bytes(const Model& model, int64_t layer, int64_t tokens,
                       const LearningOptions& options, int threads);

/// Multiplications and additions for each weight of a layer.
double learning_operations(int64_t tokens, const LearningOptions& options);

}  // namespace fewbits
