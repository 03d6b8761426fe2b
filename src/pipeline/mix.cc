#include "pipeline/mix.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/text.h"

namespace fewbits {
namespace {

using enum When;
using enum Role;

// The layer count by which llama.cpp knows Llama's 70B, whose eight query heads share each value
// head: its small value matrices get one more step.
constexpr int64_t kLayersOf70B = 80;
constexpr int64_t kExpertsOfMixtral = 8;

const std::vector<Mix>& table() {
  static const std::vector<Mix> mixes = {
      {"BF16", 32, "BF16", {}},
      {"F16", 1, "F16", {}},
      {"F32", 0, "F32", {}},
      {"IQ4_NL",
       25,
       "IQ4_NL",
       {{kValue, kGroupedQueries, "Q5_K"}, {kDown, kFirstEighthUnweighted, "Q5_K"}}},
      {"IQ4_XS",
       30,
       "IQ4_XS",
       {{kValue, kGroupedQueries, "Q5_K"}, {kDown, kFirstEighthUnweighted, "Q5_K"}}},
      {"MXFP4", 38, "MXFP4", {}},
      {"Q2_K",
       10,
       "Q2_K",
       {{kValue, kGroupedQueries, "Q4_K"},
        {kValue, kAlways, "Q3_K"},
        {kDown, kAlways, "Q3_K"},
        {kAttentionOutput, kAlways, "Q3_K"}}},
      {"Q2_K_S", 21, "Q2_K", {{kValue, kGroupedQueries, "Q4_K"}, {kDown, kFirstEighth, "Q4_K"}}},
      {"Q3_K_L",
       13,
       "Q3_K",
       {{kValue, kAlways, "Q5_K"}, {kDown, kAlways, "Q5_K"}, {kAttentionOutput, kAlways, "Q5_K"}}},
      {"Q3_K_M",
       12,
       "Q3_K",
       {{kValue, kFirstTwo, "Q5_K"},
        {kValue, kAlways, "Q4_K"},
        {kDown, kFirstSixteenth, "Q5_K"},
        {kDown, kAlways, "Q4_K"},
        {kAttentionOutput, kAlways, "Q4_K"}}},
      {"Q3_K_S", 11, "Q3_K", {}},
      {"Q4_0", 2, "Q4_0", {{kDown, kFirstEighthWeighted, "Q4_1"}}},
      {"Q4_1", 3, "Q4_1", {}},
      {"Q4_K_M", 15, "Q4_K", {{kValue, kSensitive, "Q6_K"}, {kDown, kSensitive, "Q6_K"}}},
      {"Q4_K_S", 14, "Q4_K", {{kValue, kFirstFour, "Q5_K"}, {kDown, kFirstEighth, "Q5_K"}}},
      {"Q5_0", 8, "Q5_0", {{kDown, kFirstEighthWeighted, "Q5_1"}}},
      {"Q5_1", 9, "Q5_1", {}},
      {"Q5_K_M", 17, "Q5_K", {{kValue, kSensitive, "Q6_K"}, {kDown, kSensitive, "Q6_K"}}},
      {"Q5_K_S", 16, "Q5_K", {}},
      {"Q6_K", 18, "Q6_K", {}},
      {"Q8_0", 7, "Q8_0", {}},
      {"TQ1_0", 36, "TQ1_0", {{kEmbedding, kAlways, "Q4_K"}}},
      {"TQ2_0", 37, "TQ2_0", {{kEmbedding, kAlways, "Q4_K"}}},
  };
  return mixes;
}

bool applies(When when, int64_t layer, const MixContext& context) {
  const int64_t layers = context.config->layers;
  const bool first_eighth = layer < layers / 8;
  switch (when) {
    case kAlways:
      return true;
    case kFirstTwo:
      return layer < 2;
    case kFirstFour:
      return layer < 4;
    case kFirstSixteenth:
      return layer < layers / 16;
    case kFirstEighth:
      return first_eighth;
    case kFirstEighthUnweighted:
      return first_eighth && !context.weighted;
    case kFirstEighthWeighted:
      return first_eighth && context.weighted;
    case kSensitive:
      return first_eighth || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    case kGroupedQueries:
      return context.config->heads >= 4 * context.config->kv_heads;
  }
  check(false);
  return false;
}

/// llama.cpp's category of a tensor goes by its name: a fused matrix counts as the value's, the
/// experts' matrices as those they stand for.
Role counted_as(Role role) {
  switch (role) {
    case kQueryKeyValue:
    case kKeyValue:
      return kValue;
    case kExpertDown:
    case kSharedDown:
      return kDown;
    case kExpertGate:
    case kSharedGate:
      return kGate;
    case kExpertUp:
    case kSharedUp:
    case kGateUp:
      return kUp;
    default:
      return role;
  }
}

/// Beside eight experts the matrices of attention are small: they get more bits.
const Format* format_beside_experts(const Mix& mix, Role role) {
  constexpr std::array kMoreForOutput = {"IQ4_NL", "IQ4_XS", "Q2_K",  "Q3_K_M",
                                         "Q3_K_S", "Q4_K_M", "Q4_K_S"};
  if (role == kKey || role == kValue) return &format_named("Q8_0");
  if (role != kAttentionOutput) return nullptr;
  const bool more = std::ranges::find(kMoreForOutput, mix.name) != kMoreForOutput.end();
  return &format_named(more ? "Q5_K" : mix.base);
}

const Format& output_format(const Format& base, int64_t columns) {
  if (columns % base.block_values != 0) return format_named("Q8_0");
  return base.name == "Q8_0" ? base : format_named("Q6_K");
}

}  // namespace

std::span<const Mix> mixes() {
  return table();
}

const Mix& mix_named(std::string_view name) {
  std::string wanted = lower_ascii(name);
  if (wanted == "q3_k" || wanted == "q4_k" || wanted == "q5_k") wanted += "_m";
  std::vector<std::string> known;
  for (const Mix& mix : mixes()) {
    if (lower_ascii(mix.name) == wanted) return mix;
    known.emplace_back(mix.name);
  }
  throw Error(unknown_name(name, "format to quantize to", known));
}

const Format& mix_format(const Mix& mix, Role role, int64_t layer, int64_t columns,
                         const MixContext& context) {
  const Format& base = format_named(mix.base);
  if (base.is_float()) return base;
  const bool tied = context.config->tied_embeddings;
  if (role == kOutput || (role == kEmbedding && tied)) return output_format(base, columns);
  role = counted_as(role);
  if (context.config->experts == kExpertsOfMixtral) {
    if (const Format* format = format_beside_experts(mix, role)) return *format;
  }
  const Format* format = &base;
  for (const MixRule& rule : mix.rules) {
    if (rule.role == role && applies(rule.when, layer, context)) {
      format = &format_named(rule.format);
      break;
    }
  }
  const bool small_value = role == kValue && context.config->layers == kLayersOf70B;
  if (small_value && (format->name == "Q3_K" || format->name == "Q4_K")) {
    return format_named("Q5_K");
  }
  return *format;
}

const Format& format_for_columns(const Format& wanted, int64_t columns) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 8> fallbacks = {{
      {"IQ4_XS", "IQ4_NL"},
      {"Q2_K", "Q4_0"},
      {"Q3_K", "Q4_0"},
      {"Q4_K", "Q5_0"},
      {"Q5_K", "Q5_1"},
      {"Q6_K", "Q8_0"},
      {"TQ1_0", "Q4_0"},
      {"TQ2_0", "Q4_0"},
  }};
  if (columns % wanted.block_values == 0) return wanted;
  for (const auto& [large, small] : fallbacks) {
    const Format& format = format_named(small);
    if (wanted.name == large && columns % format.block_values == 0) return format;
  }
  return format_named("F16");
}

}  // namespace fewbits
