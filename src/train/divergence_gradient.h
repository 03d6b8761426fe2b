#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"

namespace fewbits {

/// The output layer of a model that learns from another's predictions. Its matrix is decoded a part
/// at a time, since it may be larger than all the rest.
class OutputLayer {
 public:
  OutputLayer(const Model& model, ThreadPool& pool);

  int64_t vocabulary() const { return weight_.rows(); }

  /// Of final hidden states [rows][hidden]: [rows][vocabulary].
  void logits(const float* states, int64_t rows, std::vector<float>& out);

  /// For `rows` final hidden states [rows][hidden] and the logits that the teacher has there
  /// [rows][vocabulary] (overwritten): the sum over rows of the Kullback-Leibler divergence from
  /// the teacher's predictions, and its gradient by the states, into `gradient` if that is not
  /// null.
  double divergence(const float* states, int64_t rows, std::span<float> teacher, float* gradient);

 private:
  void decode(int64_t begin, int64_t count);
  double compare_rows(int64_t rows, std::span<float> teacher);

  const Weight& weight_;
  float scale_;  ///< of logits
  ThreadPool& pool_;
  std::vector<float> part_;         ///< rows of the matrix
  std::vector<float> part_logits_;  ///< [rows][those]
  std::vector<float> logits_;       ///< [rows][vocabulary]
};

}  // namespace fewbits
