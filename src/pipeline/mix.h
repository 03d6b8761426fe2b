#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/format.h"
#include "model/architecture.h"
#include "model/config.h"

// The mixes of GGUF formats that users know by name (Q4_K_M, ...): a base format, and rules that
// give some tensors more bits. The assignment is stock llama.cpp's, so that a file of ours has the
// size its name promises.
namespace fewbits {

/// When a rule applies, by the layer of the tensor or the shape of the model.
enum class When {
  kAlways,
  kFirstTwo,               ///< layers 0 and 1
  kFirstFour,              ///< layers 0 to 3
  kFirstSixteenth,         ///< layer < layers / 16
  kFirstEighth,            ///< layer < layers / 8
  kFirstEighthUnweighted,  ///< the same, only where no importance weights are given
  kFirstEighthWeighted,    ///< the same, only where they are
  kMiddle,                 ///< all but the first and the last eighth
  kSensitive,              ///< first and last eighth, and every third layer between
  kGroupedQueries,         ///< at least four query heads share a key/value head
  kGroupedOrExperts,       ///< the same, or there are at least four experts
};

struct MixRule {
  Role role;
  When when;
  std::string_view format;
};

struct Mix {
  std::string_view name;
  int file_type;               ///< general.file_type in GGUF
  std::string_view base;       ///< format of every matrix without a rule
  std::vector<MixRule> rules;  ///< the first that applies counts
};

/// Sorted by name.
std::span<const Mix> mixes();

/// Names compare without regard to case; Q3_K, Q4_K and Q5_K mean their _M mix. Error lists the
/// known.
const Mix& mix_named(std::string_view name);

struct MixContext {
  const ModelConfig* config;
  bool weighted = false;  ///< importance weights are given
};

/// The format the mix gives a matrix, before rows that do not fit its blocks are considered. The
/// output layer, and the embedding where it is tied to it, get Q6_K, or Q8_0 where rows are no
/// whole base blocks.
const Format& mix_format(const Mix& mix, Role role, int64_t layer, int64_t columns,
                         const MixContext& context);

/// The format itself, or the nearest above it whose blocks divide `columns`: 256-value types fall
/// back to 32-value ones of the next size, then everything falls back to F16.
const Format& format_for_columns(const Format& wanted, int64_t columns);

}  // namespace fewbits
