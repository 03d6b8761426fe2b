#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "formats/format.h"

// Rounding by gradient (SignRound, Cheng et al. 2023, arXiv 2309.05516): each weight has a place
// among the levels of its block, in steps from one level to the next, and takes the level nearest
// to its place. The gradient of the value is taken for that of the place (straight through the
// rounding); only its sign moves a place, by at most half a step, so that codes move by one level
// at most. The scale of every block moves with it where it is a half.
//
// It goes on where codes and parameters stand already, such as GPTQ's. A place begins where the
// weight would be best while all others are as they are rounded, so that those codes move first
// that cost least to move; as far as this gives the code that there is, else at the end of that
// code's reach.
namespace fewbits {

struct RoundingRates {
  float place = 0;  ///< in steps between levels
  float scale = 0;  ///< of log factors
};

class LearnedRounding {
 public:
  /// Whether codes stand for values of their own.
  static bool can_learn(const Format& format) { return format.has_levels(); }

  /// `weights` [rows][columns]: what is best rounded to `bytes`, in the same order of rows.
  /// `rows_at`: which row of values() and gradients each is; empty: the same.
  LearnedRounding(const Format& format, int64_t columns, std::vector<float> weights,
                  std::span<const std::byte> bytes, std::vector<int32_t> rows_at);

  /// All values as they would be stored.
  void values(std::vector<float>& out, ThreadPool& pool) const;

  /// Moves places and scales against the gradient of a loss by values().
  void learn(std::span<const float> of_values, const RoundingRates& rates, ThreadPool& pool);

  /// The rows as the format stores them, decoded to values().
  std::vector<std::byte> bytes(ThreadPool& pool) const;

  /// What an object takes for each weight, at most, besides `weights`.
  static constexpr int64_t kBytesPerWeight = 10;

 private:
  int64_t row_at(int64_t row) const;
  BlockParameters parameters(int64_t row, int64_t block) const;
  int rank(float place) const;
  float place_of(float level) const;
  void begin_row(int64_t row, const std::byte* bytes);
  void learn_scale(int64_t row, int64_t block, const float* slope, float rate);
  void learn_places(int64_t row, int64_t block, const float* slope, float rate);

  const Format& format_;
  int64_t rows_, columns_, blocks_;
  std::vector<int32_t> rows_at_;
  std::vector<uint8_t> codes_;  ///< by rank: in the order of their levels
  std::vector<float> levels_;
  bool learns_scales_, has_minimum_;
  std::vector<float> starts_, places_;  ///< [rows][columns], in ranks
  std::vector<BlockParameters> stored_;
  std::vector<float> log_factors_;  ///< [rows][blocks][scale, minimum if there is one]
};

}  // namespace fewbits
