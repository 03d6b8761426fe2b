#include "cli/needs.h"

#include <fmt/format.h>

#include "base/text.h"
#include "cli/console.h"

namespace fewbits::cli {

Json needs_json(const RunNeeds& needs) {
  return {{"read_bytes", needs.bytes_read},     {"write_bytes", needs.bytes_written},
          {"memory_bytes", needs.memory},       {"memory_limit_bytes", needs.memory_limit},
          {"spilled_bytes", needs.spilled},     {"disk_bytes", needs.disk},
          {"disk_free_bytes", needs.disk_free}, {"seconds", needs.seconds}};
}

Json plan_json(const QuantizePlan& plan) {
  Json tensors = Json::array();
  for (const PlannedTensor& tensor : plan.tensors()) {
    tensors.push_back({{"name", tensor.name}, {"format", std::string(tensor.format->name)}});
  }
  return tensors;
}

std::string formats_table(const QuantizePlan& plan) {
  std::string text;
  for (const PlannedTensor& tensor : plan.tensors()) {
    text += fmt::format("{:<32} {}\n", tensor.name, tensor.format->name);
  }
  return text;
}

std::string needs_table(const RunNeeds& needs) {
  std::string text = fmt::format("{:<12} {}\n{:<12} {}\n", "read", human_bytes(needs.bytes_read),
                                 "written", human_bytes(needs.bytes_written));
  text += fmt::format("{:<12} {} of {}{}\n", "memory", human_bytes(needs.memory),
                      human_bytes(needs.memory_limit),
                      needs.memory > needs.memory_limit ? ": too little (--memory)" : "");
  text +=
      fmt::format("{:<12} {}, {} free{}\n", "disk", human_bytes(needs.disk),
                  human_bytes(needs.disk_free), needs.disk > needs.disk_free ? ": too little" : "");
  if (needs.spilled > 0) {
    text +=
        fmt::format("{:<12} {} of hidden states go to a file\n", "", human_bytes(needs.spilled));
  }
  return text + fmt::format("{:<12} about {}\n", "time", human_seconds(needs.seconds));
}

std::string estimate_and_fact(const RunNeeds& needs, const RunFacts& facts) {
  return fmt::format(
      "{:.1f} s (estimated {:.1f}), peak memory {} (estimated {}), disk {} (estimated {})\n",
      facts.seconds, needs.seconds, human_bytes(facts.memory), human_bytes(needs.memory),
      human_bytes(facts.disk), human_bytes(needs.disk));
}

}  // namespace fewbits::cli
