#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "pipeline/calibration_options.h"
#include "pipeline/quantize.h"

// What a run will take, told before it begins: what is read and written, memory, disk and time. It
// is also where a run learns whether its hidden states fit into memory or go to a file.
namespace fewbits {

struct RunNeeds {
  int64_t bytes_read = 0;     ///< of the source, as often as it is read
  int64_t bytes_written = 0;  ///< of the output
  int64_t memory = 0;         ///< most that is resident at once
  int64_t memory_limit = 0;   ///< what may be
  int64_t spilled = 0;        ///< hidden states that go to a file; 0: they stay in memory
  int64_t disk = 0;           ///< at the output's place, what a run before left there included
  int64_t disk_free = INT64_MAX;
  double seconds = 0;
};

/// What the run will do, as the command says it.
struct RunRequest {
  const Model& model;
  const QuantizePlan& plan;
  std::filesystem::path out;
  std::span<const std::vector<Token>> samples = {};  ///< none: not calibrated
  CalibrationOptions calibration = {};
  Search search = Search::kBest;
  bool writes_folder = false;  ///< the emulated weights as they are rounded, the others as they are
  bool hashes_source = false;
  bool loads_model = false;   ///< all of it at once, to measure what matrices cost
  bool certifies = false;     ///< both models are loaded and compared
  int64_t opened_memory = 0;  ///< of the model as it is open, with its tokenizer
  int64_t edits_memory = 0;   ///< most that transforms keep of the weights they compute
  int64_t memory_limit = 0;   ///< 0: default_memory_limit()
};

/// 60 % of what is free now.
int64_t default_memory_limit();

/// Reads little and writes nothing; takes some hundredths of a second to learn how fast this
/// machine encodes. REQUIRES: the model is open and nothing else of size is in memory, since what
/// the process holds now is where memory is counted from.
RunNeeds run_needs(const RunRequest& request, ThreadPool& pool);

/// Throws Error where the run cannot work, with the remedy: too little memory, too little disk.
void refuse_impossible(const RunNeeds& needs, const RunRequest& request);

}  // namespace fewbits
