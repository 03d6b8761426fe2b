#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <vector>

#include "model/architecture.h"

namespace fewbits {

/// The inputs of a layer's matrices, but for those of experts, in the order in which they come.
inline constexpr Role kSitesOfLayer[] = {Role::kQuery, Role::kKeyValue, Role::kAttentionOutput,
                                         Role::kGate, Role::kDown};

/// The matrices that may read the same input, by the role that the engine's observer reports for
/// it; a model has some of them.
inline std::vector<Role> readers_of(Role site) {
  switch (site) {
    case Role::kQuery:
      return {Role::kQueryKeyValue, Role::kQuery, Role::kKey, Role::kValue, Role::kLatent};
    case Role::kGate:
      return {Role::kGateUp, Role::kGate, Role::kUp};
    case Role::kExpertGate:
      return {Role::kExpertGate, Role::kExpertUp};
    case Role::kSharedGate:
      return {Role::kSharedGate, Role::kSharedUp};
    default:
      return {site};
  }
}

/// The index in kSitesOfLayer of the site that a matrix of this role reads; behind the last: of
/// none.
inline size_t site_of(Role role) {
  size_t site = 0;
  for (; site < std::size(kSitesOfLayer); ++site) {
    const std::vector<Role> readers = readers_of(kSitesOfLayer[site]);
    if (std::find(readers.begin(), readers.end(), role) != readers.end()) break;
  }
  return site;
}

}  // namespace fewbits
