#pragma once

#include <filesystem>
#include <string>

#include "pipeline/tune.h"

namespace fewbits {

/// How far a tuning run has come, in a file beside its output, .NAME.fewbits-tuning, so that a run
/// that was killed goes on there. It is replaced as a whole:
///
///     {"fewbits_tuning": 1, "run": ..., "steps": ..., ...}     a line of JSON
///     arrays of floats, one after another
///     SHA-256 of all that, 64 hexadecimal digits
///
/// A file of another run, or one that is not whole, is none.
class TuningCheckpoint {
 public:
  /// `run` tells runs apart that cannot go on with each other's work.
  TuningCheckpoint(const std::filesystem::path& out, std::string run);
  /// Removes the file unless it is kept.
  ~TuningCheckpoint();
  TuningCheckpoint(const TuningCheckpoint&) = delete;
  TuningCheckpoint& operator=(const TuningCheckpoint&) = delete;

  /// Fills in `state`, whose arrays have the sizes that are wanted. False where there is none.
  bool load(TuningState& state);
  /// How long the run had taken when what was loaded was written.
  double seconds_before() const { return seconds_before_; }

  /// Writes it, if that is worth its time: at most a twentieth of all goes into this. `seconds`
  /// have passed in this process.
  void save_if_due(const TuningState& state, double seconds);

  /// For a run that stops and can go on. False where nothing was written.
  bool keep();

 private:
  void save(const TuningState& state, double seconds);

  std::filesystem::path path_;
  std::string run_;
  double seconds_before_ = 0;
  double last_end_ = 0, last_cost_ = 0;
  bool exists_ = false, keep_ = false;
};

}  // namespace fewbits
