#include "kernels/kernel_table.h"

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/text.h"
#include "kernels/attention_shape.h"
#include "kernels/isa_tables.h"

namespace fewbits {
namespace {

const KernelTable& forced(std::string_view name) {
  std::vector<std::string> known;
  for (const KernelCandidate& candidate : kernel_candidates()) {
    known.emplace_back(candidate.table->name);
    if (known.back() != name) continue;
    if (candidate.usable) return *candidate.table;
    throw Error("FEWBITS_ISA: this processor lacks '" + known.back() +
                "'; unset it to use the best it has");
  }
  throw Error("FEWBITS_ISA: " + unknown_name(name, "instruction set", known));
}

const KernelTable& choose() {
  const char* name = std::getenv("FEWBITS_ISA");
  if (name != nullptr && *name != '\0') return forced(name);
  for (const KernelCandidate& candidate : kernel_candidates()) {
    if (candidate.usable) return *candidate.table;
  }
  return kScalarTable;
}

}  // namespace

const KernelTable& kernels() {
  static const KernelTable& chosen = choose();
  return chosen;
}

int64_t attention_scratch_floats(int64_t query_count, int64_t depth, int64_t value_dim) {
  const int64_t width = (value_dim + kHeadStep - 1) / kHeadStep * kHeadStep;
  const int64_t floats =
      kKeyTile * (depth + width) + kQueryTile * kKeyTile + query_count * (2 + width);
  // And for tiles: queries, keys and values again, weights, scores and a product, aligned.
  const int64_t queries = round_up(query_count, kTileTokens);
  return floats + queries * depth * 3 / 2 + kKeyTile * (depth + width) +
         kTileQueries * kKeyTile * 2 + kTileQueries * 2 * kGroupRows + 16;
}

}  // namespace fewbits
