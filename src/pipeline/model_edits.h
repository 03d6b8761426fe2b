#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"
#include "pipeline/weight_edit.h"

// Transforms of a model that keep the function it computes, so that it loses less when it is
// quantized, or its activations are. They become edits of its weights, which are computed as they
// are read; what comes out is an ordinary model.
namespace fewbits {

/// The largest magnitudes of what a site of a layer is fed, by column; the roles are those that
/// the engine's observer reports.
using LargestInputs = std::map<std::pair<int64_t, Role>, std::vector<float>>;

/// Each may be called once, in the order in which they stand here.
class ModelEdits {
 public:
  /// `model` is changed by finish(), and where its output needs weights of its own, before. Both
  /// must outlive this object, and this object all reads of the weights.
  ModelEdits(Model& model, ThreadPool& pool) : model_(model), pool_(pool) {}

  /// The gains of the norms before matrices go into the columns of these, and become 1; a norm's
  /// bias is divided by them. The output's norm stays where the output is tied to the embedding.
  /// Throws Error where there is none such.
  void fuse_norms();

  /// Turns the hidden states that the layers add to: x becomes x R in the embedding and in all that
  /// reads and writes it. Fuses the norms. Layer norms subtract the mean, so there R keeps that.
  /// Throws Error, saying why, where a norm with gains stands in the stream or behind a part, or
  /// where the states are what the model is for.
  void rotate_residual(uint64_t seed);

  /// Turns the values of each attention head, and back in the matrix that reads them. Heads that
  /// share a value share its rotation, each layer has its own.
  void rotate_heads(uint64_t seed);

  /// Evens out the rows of value and up with the columns of what reads them; up only where it is
  /// beside a gate or the activation is ReLU.
  void equalize();

  /// SmoothQuant: moves size from activations to weights, through the gains of norms and the rows
  /// of value and up. `largest` comes from the model as it is stored: not with the others. Throws
  /// Error where nothing can take it over.
  void smooth(const LargestInputs& largest, double alpha);

  /// From now on the model's weights are the edited ones.
  void finish();

  /// Most that edited weights keep in memory, all together.
  int64_t memory() const;

  /// What the user may want to know.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  struct NormSite {
    Role gain, bias;
    int64_t layer;
    std::vector<Role> readers;
  };
  /// Rows of one matrix and the columns of another that is fed by them.
  struct Pair {
    Role producer = {}, producer_bias = {}, consumer = {};
    std::vector<int64_t> row_of_column = {};  ///< columns counted through all experts
  };

  bool has(Role role, int64_t layer) const { return model_.find(role, layer) != nullptr; }
  EditedWeight& edited(Role role, int64_t layer);
  std::vector<float> vector_of(Role role, int64_t layer);

  std::vector<NormSite> norm_sites() const;
  std::vector<Pair> pairs(int64_t layer) const;
  std::vector<int64_t> value_rows(int64_t layer, Role& role, Role& bias) const;
  void fuse(const NormSite& site);
  void multiply_readers(const NormSite& site, const std::vector<float>& factors);
  void untie_output();
  void settle_output_norm();
  void refuse_norms_in_stream() const;
  bool is_even(Role gain, int64_t layer) const;
  void rotate_layer(int64_t layer);
  void rotate_vector(Role role, int64_t layer, const HadamardRotation& rotation);
  void scale(const Pair& pair, int64_t layer, const std::vector<float>& scales);
  bool smooth_norm(const NormSite& site, const LargestInputs& largest, double alpha);
  [[noreturn]] void refuse(const std::string& what) const;

  Model& model_;
  ThreadPool& pool_;
  MixedRows mixed_;
  std::map<std::pair<int64_t, Role>, std::unique_ptr<EditedWeight>> edits_;
  std::vector<std::unique_ptr<HadamardRotation>> rotations_;
  std::vector<std::string> notes_;
  bool fused_ = false;
};

}  // namespace fewbits
