#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cli/console.h"
#include "pipeline/quantize.h"

namespace fewbits::cli {

/// What a run of quantize says while it works. Plain runs count bytes; calibrated ones the work of
/// their layers, and name layer, matrix and what the one before it lost.
class QuantizeBar {
 public:
  /// `learned`: multiplications and additions for each weight, where layers learn after GPTQ.
  QuantizeBar(const QuantizePlan& plan, bool calibrated, double learned = 0);

  /// As QuantizeRun::progress.
  void bytes(int64_t done, int64_t total, const std::string& tensor);
  /// As CalibrationOptions::progress.
  void matrix(const Weight& weight, double error);
  /// As CalibrationOptions::learning_progress; `share` of its steps.
  void learning(int64_t layer, double share, double loss);
  /// A layer of an earlier run goes before.
  void restored(int64_t layer);
  /// Nothing new, but time goes by.
  void wait();
  /// As QuantizeRun::read_back.
  void read_back(int64_t done, int64_t total, const std::string& tensor);
  /// Clears the terminal for another bar.
  void finish();

 private:
  int64_t work_of(int64_t layer) const;
  int64_t learning_work(const PlannedWeight& planned) const;
  int64_t learning_work_of(int64_t layer) const;

  const QuantizePlan& plan_;
  double learned_;
  int64_t layers_ = 0, all_ = 0, done_ = 0;  ///< of the calibrated work; all 0: not calibrated
  int64_t learning_ = 0;                     ///< of done_: of the layer that learns
  std::string detail_, error_;
  std::optional<Progress> bar_;
  bool restoring_ = false, reading_ = false;
};

}  // namespace fewbits::cli
