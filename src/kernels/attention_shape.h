#pragma once

#include <cstdint>

// How attention.inl cuts its work; shared with the file that says how much scratch it needs.
namespace fewbits {

/// Keys in one tile: their floats (keys and values) stay in the first-level cache for head sizes up
/// to 64.
constexpr int64_t kKeyTile = 64;

/// Most queries in one tile of scores.
constexpr int64_t kQueryTile = 12;

/// The same where scores are made in a unit for matrices.
constexpr int64_t kTileQueries = 64;

/// Head dimension rounded up to whole panels of 16 lanes.
constexpr int64_t kHeadStep = 16;

}  // namespace fewbits
