#include "pipeline/mix.h"

#include <algorithm>
#include <array>
#include <iterator>

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

// Where the others have hardly any bits, values and the first matrices of the MLP keep more.
std::vector<MixRule> rules_of_iq2_xs() {
  return {{kEmbedding, kAlways, "Q2_K"},
          {kValue, kGroupedOrExperts, "Q4_K"},
          {kValue, kAlways, "Q2_K"},
          {kDown, kFirstEighth, "Q2_K"}};
}

std::vector<MixRule> rules_of_iq1() {
  std::vector<MixRule> rules = rules_of_iq2_xs();
  rules.push_back({kAttentionOutput, kAlways, "IQ2_XXS"});
  return rules;
}

std::vector<MixRule> rules_of_iq2_s() {
  return {{kEmbedding, kAlways, "IQ3_S"},
          {kValue, kGroupedOrExperts, "Q4_K"},
          {kValue, kAlways, "IQ3_S"},
          {kDown, kFirstEighth, "IQ3_S"},
          {kAttentionOutput, kAlways, "IQ3_S"}};
}

std::vector<Mix> mixes_of_vectors() {
  return {
      {"IQ1_M", 31, "IQ1_M", rules_of_iq1()},
      {"IQ1_S", 24, "IQ1_S", rules_of_iq1()},
      {"IQ2_M", 29, "IQ2_S", rules_of_iq2_s()},
      {"IQ2_S", 28, "IQ2_XS", rules_of_iq2_s()},
      {"IQ2_XS", 20, "IQ2_XS", rules_of_iq2_xs()},
      {"IQ2_XXS", 19, "IQ2_XXS", rules_of_iq2_xs()},
      {"IQ3_M",
       27,
       "IQ3_S",
       {{kValue, kAlways, "Q4_K"},
        {kDown, kFirstEighth, "Q4_K"},
        {kAttentionOutput, kAlways, "Q4_K"}}},
      {"IQ3_S", 26, "IQ3_S", {{kValue, kGroupedQueries, "Q4_K"}}},
      {"IQ3_XS",
       22,
       "IQ3_S",
       {{kValue, kGroupedQueries, "Q4_K"},
        {kQuery, kAlways, "IQ3_XXS"},
        {kKey, kAlways, "IQ3_XXS"},
        {kGate, kMiddle, "IQ3_XXS"},
        {kUp, kMiddle, "IQ3_XXS"}}},
      {"IQ3_XXS",
       23,
       "IQ3_XXS",
       {{kEmbedding, kAlways, "IQ3_S"},
        {kValue, kGroupedQueries, "Q4_K"},
        {kQuery, kAlways, "IQ2_S"},
        {kKey, kAlways, "IQ2_S"},
        {kAttentionOutput, kAlways, "IQ3_S"}}},
  };
}

std::vector<Mix> mixes_of_scalars() {
  return {
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
      {"NVFP4", 39, "NVFP4", {}},
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
}

const std::vector<Mix>& table() {
  static const std::vector<Mix> mixes = [] {
    std::vector<Mix> all = mixes_of_scalars();
    std::ranges::copy(mixes_of_vectors(), std::back_inserter(all));
    std::ranges::sort(all, {}, &Mix::name);
    return all;
  }();
  return mixes;
}

bool applies(When when, int64_t layer, const MixContext& context) {
  const int64_t layers = context.config->layers;
  const bool first_eighth = layer < layers / 8;
  const bool grouped = context.config->heads >= 4 * context.config->kv_heads;
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
    case kMiddle:
      return !first_eighth && layer < 7 * layers / 8;
    case kSensitive:
      return first_eighth || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
    case kGroupedQueries:
      return grouped;
    case kGroupedOrExperts:
      return grouped || context.config->experts >= 4;
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

/// The mixes of about two bits and fewer.
bool is_tiny(const Mix& mix) {
  return mix.name.starts_with("IQ1") || mix.name.starts_with("IQ2");
}

/// Beside eight experts the matrices of attention are small: they get more bits.
const Format* format_beside_experts(const Mix& mix, Role role) {
  constexpr std::array kMoreForOutput = {"IQ3_M", "IQ3_S",  "IQ3_XS", "IQ3_XXS", "IQ4_NL", "IQ4_XS",
                                         "Q2_K",  "Q3_K_M", "Q3_K_S", "Q4_K_M",  "Q4_K_S"};
  if (role == kKey || role == kValue) return &format_named(is_tiny(mix) ? "Q4_K" : "Q8_0");
  if (role != kAttentionOutput) return nullptr;
  const bool more =
      std::ranges::find(kMoreForOutput, mix.name) != kMoreForOutput.end() || is_tiny(mix);
  return &format_named(more ? "Q5_K" : mix.base);
}

const Format& output_format(const Mix& mix, int64_t columns) {
  const Format& base = format_named(mix.base);
  if (columns % base.block_values != 0) return format_named("Q8_0");
  if (is_tiny(mix) || mix.name == "IQ3_XXS") return format_named("Q5_K");
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
  if (role == kOutput || (role == kEmbedding && tied)) return output_format(mix, columns);
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
  const bool small_value =
      role == kValue && !is_tiny(mix) && context.config->layers == kLayersOf70B;
  if (small_value && (format->name == "Q3_K" || format->name == "Q4_K")) {
    return format_named("Q5_K");
  }
  return *format;
}

const Format& format_for_columns(const Format& wanted, int64_t columns) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> fallbacks = {{
      {"Q2_K", "Q4_0"},
      {"Q3_K", "Q4_0"},
      {"Q4_K", "Q5_0"},
      {"Q5_K", "Q5_1"},
      {"Q6_K", "Q8_0"},
      {"TQ1_0", "Q4_0"},
      {"TQ2_0", "Q4_0"},
  }};
  if (columns % wanted.block_values == 0) return wanted;
  if (wanted.name.starts_with("IQ") && columns % format_named("IQ4_NL").block_values == 0)
    return format_named("IQ4_NL");
  for (const auto& [large, small] : fallbacks) {
    const Format& format = format_named(small);
    if (wanted.name == large && columns % format.block_values == 0) return format;
  }
  return format_named("F16");
}

}  // namespace fewbits
