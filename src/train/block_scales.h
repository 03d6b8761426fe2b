#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"

namespace fewbits {

/// A stored half times a factor, as it can be stored.
uint16_t times(uint16_t half, float factor);

/// A quantized matrix whose codes stay as they are while the scale of every block may change, and
/// its minimum where the format has one: each is multiplied by exp(its log factor). That costs no
/// bytes, since both are stored anyway (EfficientQAT, Chen et al. 2024, arXiv 2407.11062, section
/// 3.3, trains the same numbers).
class BlockScales {
 public:
  /// Whether the blocks of a format have scales that can be anything: halves, not powers of 2.
  static bool can_tune(const Format& format);
  /// Whether its blocks store a minimum, too. REQUIRES: can_tune.
  static bool has_minimum(const Format& format);

  /// How many factors a weight has. REQUIRES: can_tune its format.
  static int64_t count(const Weight& weight);

  /// `weight`, whose format can be tuned, must outlive this object.
  explicit BlockScales(const Weight& weight);

  const Weight& weight() const { return weight_; }

  /// All values, factors applied, rows in our order.
  void values(std::vector<float>& out, ThreadPool& pool) const;

  /// What the gradient of the values says of the log factors is added to `gradient`. `values`: as
  /// values() gave them.
  void add_gradient(std::span<const float> of_values, std::span<const float> values,
                    ThreadPool& pool);

  /// The matrix with its scales rounded to what a block stores, rows in GGUF's order.
  std::vector<std::byte> bytes() const;

  std::vector<float> log_factors, gradient;  ///< [row][block][scale, minimum if there is one]

 private:
  struct Factors {
    float scale = 1, minimum = 1;
  };
  Factors factors(int64_t row, int64_t block) const;
  void read_offsets(int64_t row, std::vector<float>& offsets) const;
  void scale_row(int64_t row, std::byte* bytes) const;

  const Weight& weight_;
  int64_t blocks_;  ///< of a row
  bool has_minimum_;
};

}  // namespace fewbits
