#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "engine/rope.h"
#include "model/model.h"

// One decoder layer in floats, forward and backward: what training needs and the engine, whose
// weights are packed and whose inputs are rounded, does not give.
//
// Heads of queries and keys have norms of their own in some models, before they are turned.
//
//   n = rms(x) g1;  h = x + attend(rope(n Wq^T), rope(n Wk^T), n Wv^T) Wo^T
//   m = rms(h) g2;  y = h + (silu(m Wg^T) * (m Wu^T)) Wd^T
namespace fewbits {

/// Matrices [outputs][inputs], rows in our order.
struct DenseLayer {
  std::vector<float> attention_norm, mlp_norm;
  std::vector<float> query_norm, key_norm;              ///< of each head; empty: none
  std::vector<float> query_bias, key_bias, value_bias;  ///< empty: none
  std::vector<float> query, key, value, attention_output, gate, up, down;
  int64_t window = 0;

  /// By the role of a matrix; null for other roles.
  std::vector<float>* matrix(Role role);
};

/// Roles of the matrices, in the order in which a layer uses them.
std::span<const Role> dense_matrices();

/// Fills the values of a matrix in place of those that the model has; false: it has none.
using MatrixSource = std::function<bool(const Weight& weight, std::vector<float>& values)>;

/// Reads a layer of the model into `layer`. REQUIRES: why_not_trainable(model) is "".
void load_dense_layer(const Model& model, int64_t index, const MatrixSource& source,
                      DenseLayer& layer, ThreadPool& pool);

/// "" where layers of this shape can be trained, else what stands in the way.
std::string why_not_trainable(const Model& model);

/// What the backward pass needs of the forward pass. Everything is [tokens][...].
struct LayerTape {
  std::vector<float> input, normed, query, key, value, mixed, middle, mlp_normed, gate, up, product;
  std::vector<float> query_heads, key_heads;  ///< before norms of heads, where there are such
};

/// Whole sequences, all of one length, each from position 0 on.
struct Batch {
  int64_t sequences = 0, length = 0;
  int64_t tokens() const { return sequences * length; }
  bool operator==(const Batch&) const = default;
};

struct LayerGradients {
  /// Called once for each matrix; the values are valid during the call.
  std::function<void(Role, std::span<const float>)> matrix;
  std::vector<float> attention_norm, mlp_norm;  ///< set by backward
};

class DenseLayers {
 public:
  /// `rope`: prepared for the positions of a sequence. References must outlive this object.
  DenseLayers(const ModelConfig& config, const RopeTable& rope, Batch batch, ThreadPool& pool);

  /// states [tokens][hidden]: replaced by the layer's output.
  void forward(const DenseLayer& layer, std::span<float> states, LayerTape& tape) const;

  /// gradient [tokens][hidden]: of the output, replaced by that of the input.
  void backward(const DenseLayer& layer, const LayerTape& tape, std::span<float> gradient,
                LayerGradients& gradients);

 private:
  void attention_backward(const DenseLayer& layer, const LayerTape& tape, std::span<float> gradient,
                          LayerGradients& gradients);
  void mlp_backward(const DenseLayer& layer, const LayerTape& tape, std::span<float> gradient,
                    LayerGradients& gradients);
  struct Map;
  void map_backward(const Map& map, LayerGradients& gradients);
  void norm_heads(const std::vector<float>& gain, std::vector<float>& rows,
                  std::vector<float>& heads) const;
  void heads_backward(const std::vector<float>& gain, const std::vector<float>& heads,
                      std::vector<float>& gradient) const;
  void rotate(std::vector<float>& rows, int64_t heads, bool back) const;

  const ModelConfig& config_;
  const RopeTable& rope_;
  Batch batch_;
  ThreadPool& pool_;
  std::vector<float> normed_gradient_, mixed_, query_, key_, value_, gate_, up_, product_;
  std::vector<float> weight_gradient_;
};

/// out = x * gain / rms(x), rows of gain.size() values.
void rms_forward(std::span<const float> gain, double epsilon, std::span<const float> x, float* out,
                 ThreadPool& pool);

/// Adds the gradient of x to `dx` and gives that of the gain.
std::vector<float> rms_backward(std::span<const float> gain, double epsilon,
                                std::span<const float> x, const float* dy, float* dx);

}  // namespace fewbits
