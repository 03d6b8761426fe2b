#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "model/model.h"

// How much each input column of a matrix matters: the mean square of what it is fed. llama.cpp
// calls a file of them an importance matrix (imatrix) and keeps it as a GGUF:
//
//     general.type = "imatrix", imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size,
//     fewbits.model (ours alone: model_identity)
//     NAME.in_sum2   F32 [matrices][columns]   sums of squares; NAME is a weight's GGUF name
//     NAME.counts    F32 [matrices][1]         tokens that were summed
//
// Source: llama.cpp, tools/imatrix (the GGUF form; its older .dat form is not read).
namespace fewbits {

struct ImportanceEntry {
  std::vector<float> sums;    ///< [matrices][columns]; one matrix for each expert, else one
  std::vector<float> tokens;  ///< [matrices]

  int64_t matrices() const { return static_cast<int64_t>(tokens.size()); }
  int64_t columns() const { return static_cast<int64_t>(sums.size()) / matrices(); }
  /// Mean squares of one matrix; all 1 where it has seen nothing.
  std::vector<float> means(int64_t matrix) const;
};

struct Importance {
  std::map<std::string, ImportanceEntry> entries;  ///< by the GGUF name of the weight
  std::vector<std::string> texts;                  ///< where it was gathered
  int64_t samples = 0, sample_length = 0;
  std::string model = {};  ///< its identity; "": the file does not say
};

/// An expert that hardly any token of the samples went to: what it is fed is not known well. Where
/// none did, its weights are rounded as if all inputs mattered alike.
struct StarvedExpert {
  std::string weight;
  int64_t expert, tokens;
};

inline constexpr int64_t kEnoughTokens = 64;  ///< for an expert

std::vector<StarvedExpert> starved_experts(const Importance& importance);

/// Samples done, samples of all layers together.
using ImportanceProgress = std::function<void(int64_t done, int64_t total)>;

/// Runs the samples through the model, one layer after another. Throws Error where an activation is
/// not finite (layer and sample named).
Importance gather_importance(const Model& model, std::span<const std::vector<Token>> samples,
                             ThreadPool& pool, const ImportanceProgress& progress = {});

/// The file appears under its name only when it is whole.
void write_importance(const Importance& importance, const std::filesystem::path& path);

/// Throws Error where the file is no importance matrix, or an entry's sizes or values make no
/// sense.
Importance read_importance(const std::filesystem::path& path);

}  // namespace fewbits
