#include "train/divergence_gradient.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/parallel.h"
#include "kernels/kernel_table.h"
#include "train/dense.h"

namespace fewbits {
namespace {

constexpr int64_t kPart = 4096;  // rows of the matrix decoded at once
constexpr int64_t kRowsPerTask = 32;

const Weight& output_of(const Model& model) {
  const Weight* weight = model.find(Role::kOutput);
  if (weight == nullptr) weight = model.find(Role::kEmbedding);
  check(weight != nullptr);
  return *weight;
}

struct Peak {
  float max;
  double log_sum;  ///< log sum exp
};

Peak peak_of(std::span<const float> logits) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float x : logits) sum += std::exp(x - max);
  return {max, max + std::log(sum)};
}

/// The divergence, and `model` becomes its gradient: q - p. `teacher` becomes p.
double compare_row(std::span<float> teacher, std::span<float> model) {
  const Peak p = peak_of(teacher), q = peak_of(model);
  double sum = 0;
  for (size_t i = 0; i < teacher.size(); ++i) {
    const auto log_p = static_cast<float>(teacher[i] - p.log_sum);
    const auto log_q = static_cast<float>(model[i] - q.log_sum);
    teacher[i] = std::exp(log_p);
    sum += double{teacher[i]} * (log_p - log_q);
    model[i] = std::exp(log_q) - teacher[i];
  }
  return sum;
}

}  // namespace

OutputLayer::OutputLayer(const Model& model, ThreadPool& pool)
    : weight_(output_of(model)),
      scale_(static_cast<float>(model.config.logit_scale)),
      pool_(pool) {}

void OutputLayer::decode(int64_t begin, int64_t count) {
  part_.resize(static_cast<size_t>(count * weight_.columns()));
  parallel_for(pool_, count, kRowsPerTask, [&](int64_t i) {
    weight_.read_row(begin + i, part_.data() + i * weight_.columns());
  });
  weight_.drop_pages();
}

double OutputLayer::divergence(const float* states, int64_t rows, std::span<float> teacher,
                               float* gradient) {
  const int64_t width = weight_.columns(), vocabulary = weight_.rows();
  check(std::ssize(teacher) == rows * vocabulary);
  logits(states, rows, logits_);
  const double sum = compare_rows(rows, teacher);
  if (gradient == nullptr) return sum;
  std::fill_n(gradient, rows * width, 0.0f);
  for (int64_t begin = 0; begin < vocabulary; begin += kPart) {
    const int64_t count = std::min(kPart, vocabulary - begin);
    decode(begin, count);
    part_logits_.resize(static_cast<size_t>(rows * count));
    parallel_for(pool_, rows, kRowsPerTask, [&](int64_t i) {
      for (int64_t j = 0; j < count; ++j) {
        part_logits_[static_cast<size_t>(i * count + j)] =
            scale_ * logits_[static_cast<size_t>(i * vocabulary + begin + j)];
      }
    });
    add_input_gradient({rows, count, width}, part_logits_.data(), part_.data(), gradient, pool_);
  }
  return sum;
}

void OutputLayer::logits(const float* states, int64_t rows, std::vector<float>& out) {
  const int64_t width = weight_.columns(), vocabulary = weight_.rows();
  out.resize(static_cast<size_t>(rows * vocabulary));
  for (int64_t begin = 0; begin < vocabulary; begin += kPart) {
    const int64_t count = std::min(kPart, vocabulary - begin);
    decode(begin, count);
    part_logits_.resize(static_cast<size_t>(rows * count));
    apply_map({rows, count, width}, states, part_.data(), part_logits_.data(), pool_);
    parallel_for(pool_, rows, kRowsPerTask, [&](int64_t i) {
      for (int64_t j = 0; j < count; ++j) {
        out[static_cast<size_t>(i * vocabulary + begin + j)] =
            scale_ * part_logits_[static_cast<size_t>(i * count + j)];
      }
    });
  }
}

double OutputLayer::compare_rows(int64_t rows, std::span<float> teacher) {
  const auto vocabulary = static_cast<size_t>(weight_.rows());
  std::vector<double> sums(static_cast<size_t>(rows));
  parallel_for(pool_, rows, 1, [&](int64_t i) {
    const size_t begin = static_cast<size_t>(i) * vocabulary;
    sums[static_cast<size_t>(i)] = compare_row(teacher.subspan(begin, vocabulary),
                                               std::span(logits_).subspan(begin, vocabulary));
  });
  double sum = 0;
  for (const double row : sums) sum += row;
  return sum;
}

}  // namespace fewbits
