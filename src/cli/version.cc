#include "cli/version.h"

#include <fmt/format.h>

#include <vector>

#include "base/text.h"
#include "fewbits/fewbits.h"
#include "kernels/kernel_table.h"

namespace fewbits::cli {

std::string version_text() {
  std::vector<std::string> sets;
  for (const KernelCandidate& candidate : kernel_candidates()) {
    const char* state = candidate.table == &kernels() ? " (in use)"
                        : candidate.usable            ? ""
                                                      : " (not on this machine)";
    sets.push_back(fmt::format("{}{}", candidate.table->name, state));
  }
  return fmt::format("fewbits {}\ncompiler: {}\ninstruction sets: {}", version(), __VERSION__,
                     join(sets));
}

}  // namespace fewbits::cli
