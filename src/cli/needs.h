#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"
#include "pipeline/preflight.h"

// How the program says what a run will take, and after it what it took.
namespace fewbits::cli {

struct RunFacts {
  double seconds = 0;
  int64_t memory = 0;  ///< peak
  int64_t disk = 0;
};

Json needs_json(const RunNeeds& needs);
Json plan_json(const QuantizePlan& plan);

/// A line for each tensor, and one for each kind of need.
std::string formats_table(const QuantizePlan& plan);
std::string needs_table(const RunNeeds& needs);

/// Two lines: what was expected and what it came to.
std::string estimate_and_fact(const RunNeeds& needs, const RunFacts& facts);

}  // namespace fewbits::cli
