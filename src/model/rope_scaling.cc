#include "model/rope_scaling.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "base/error.h"
#include "model/config_parts.h"

namespace fewbits {
namespace {

using Kind = RopeScaling::Kind;

constexpr double kTurn = 2 * std::numbers::pi;
constexpr int64_t kDefaultOriginalContext = 8192;  // of Llama 3

/// Frequencies that turn less than `low` times in the original context are divided by the whole
/// factor, those that turn more than `high` times are kept, and between the two the reciprocals are
/// blended.
double llama3_divisor(double frequency, const RopeScaling& scaling) {
  const double turns = static_cast<double>(scaling.original_context) * frequency / kTurn;
  if (turns > scaling.high_frequency_factor) return 1;
  if (turns < scaling.low_frequency_factor) return scaling.factor;
  const double smooth = (turns - scaling.low_frequency_factor) /
                        (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return 1 / ((1 - smooth) / scaling.factor + smooth);
}

/// YaRN's passage lies between two places in the row of frequencies, those that turn beta_fast and
/// beta_slow times, each rounded outwards.
class YarnDivisors {
 public:
  YarnDivisors(const RopeScaling& scaling, double theta, int64_t dims) : factor_(scaling.factor) {
    const auto place = [&](double turns) {
      const double wave = static_cast<double>(scaling.original_context) / (turns * kTurn);
      return static_cast<double>(dims) * std::log(wave) / (2 * std::log(theta));
    };
    constexpr double kLeastLength = 0.001;
    first_ = std::max(0.0, std::floor(place(scaling.beta_fast)));
    const double last =
        std::min(static_cast<double>(dims - 1), std::ceil(place(scaling.beta_slow)));
    length_ = first_ == last ? kLeastLength : last - first_;
  }

  double at(int64_t pair) const {
    const double divided = std::clamp((static_cast<double>(pair) - first_) / length_, 0.0, 1.0);
    return 1 / (divided / factor_ + 1 - divided);
  }

 private:
  double factor_, first_, length_;
};

void check_size(std::string_view name, int64_t value, std::string_view where) {
  constexpr int64_t kMost = int64_t{1} << 30;
  if (value >= 1 && value <= kMost) return;
  throw Error(fmt::format("{}: RoPE {} is {}, must be 1 to {}", where, name, value, kMost));
}

void check_number(std::string_view name, double value, std::string_view where) {
  constexpr double kMost = 1e6;
  if (std::isfinite(value) && value > 0 && value <= kMost) return;
  throw Error(
      fmt::format("{}: RoPE {} is {}, must be above 0 and at most {}", where, name, value, kMost));
}

void check_order(std::string_view above, double high, std::string_view below, double low,
                 std::string_view where) {
  check_number(below, low, where);
  check_number(above, high, where);
  if (high > low) return;
  throw Error(fmt::format("{}: RoPE {} {} must be above {} {}", where, above, high, below, low));
}

void check_factors(std::string_view name, const std::vector<float>& factors, int64_t dims,
                   std::string_view where) {
  if (std::ssize(factors) != dims / 2) {
    throw Error(fmt::format("{}: RoPE {} has {} numbers, must have {}, one for each frequency",
                            where, name, factors.size(), dims / 2));
  }
  for (const float factor : factors) check_number(name, double{factor}, where);
}

std::vector<float> read_factors(const Json& rope, const char* key, std::string_view where) {
  const auto found = rope.find(key);
  if (found == rope.end() || !found->is_array()) {
    throw Error(fmt::format("{}: 'rope_scaling' has no list '{}'", where, key));
  }
  std::vector<float> factors;
  for (const Json& number : *found) {
    if (!number.is_number()) throw Error(fmt::format("{}: '{}' must hold numbers", where, key));
    factors.push_back(number.get<float>());
  }
  return factors;
}

/// The context of first training, in the config itself or with the scaling.
int64_t read_original_context(const Json& rope, const Json& config, std::string_view where) {
  const char* key = "original_max_position_embeddings";
  const int64_t trained = json_integer_or(config, "max_position_embeddings", 0, where);
  return json_integer_or(config, key, json_integer_or(rope, key, trained, where), where);
}

/// How many times the original context; where the config leaves it out, what its contexts say.
double read_factor(const Json& rope, const Json& config, const RopeScaling& scaling,
                   std::string_view where) {
  const double stated = json_number_or(rope, "factor", 0, where);
  if (stated != 0 || scaling.original_context < 1) return stated;
  const int64_t context = json_integer_or(config, "max_position_embeddings", 0, where);
  return static_cast<double>(context) / static_cast<double>(scaling.original_context);
}

RopeScaling read_yarn(const Json& rope, const Json& config, std::string_view where) {
  if (!json_bool_or(rope, "truncate", true, where)) {
    throw Error(fmt::format("{}: 'truncate: false' is not supported for YaRN", where));
  }
  RopeScaling scaling{.kind = Kind::kYarn};
  scaling.original_context = read_original_context(rope, config, where);
  scaling.factor = read_factor(rope, config, scaling, where);
  scaling.beta_fast = json_number_or(rope, "beta_fast", scaling.beta_fast, where);
  scaling.beta_slow = json_number_or(rope, "beta_slow", scaling.beta_slow, where);
  const double growth = json_number_or(rope, "mscale", 0, where);
  scaling.score_growth = json_number_or(rope, "mscale_all_dim", 0, where);
  double magnitude = yarn_growth(scaling.factor);
  if (growth != 0 && scaling.score_growth != 0) {
    magnitude =
        yarn_growth(scaling.factor, growth) / yarn_growth(scaling.factor, scaling.score_growth);
  }
  scaling.magnitude = json_number_or(rope, "attention_factor", magnitude, where);
  return scaling;
}

RopeScaling read_longrope(const Json& rope, const Json& config, std::string_view where) {
  RopeScaling scaling{.kind = Kind::kLongRope};
  scaling.original_context = read_original_context(rope, config, where);
  scaling.factor = read_factor(rope, config, scaling, where);
  scaling.short_factors = read_factors(rope, "short_factor", where);
  scaling.long_factors = read_factors(rope, "long_factor", where);
  double magnitude = 1;
  if (scaling.factor > 1 && scaling.original_context > 1) {
    magnitude = std::sqrt(1 + std::log(scaling.factor) /
                                  std::log(static_cast<double>(scaling.original_context)));
  }
  scaling.magnitude = json_number_or(rope, "attention_factor", magnitude, where);
  return scaling;
}

RopeScaling read_llama3(const Json& rope, std::string_view where) {
  return {.kind = Kind::kLlama3,
          .factor = json_number_or(rope, "factor", 8, where),
          .low_frequency_factor = json_number_or(rope, "low_freq_factor", 1, where),
          .high_frequency_factor = json_number_or(rope, "high_freq_factor", 4, where),
          .original_context = json_integer_or(rope, "original_max_position_embeddings",
                                              kDefaultOriginalContext, where)};
}

}  // namespace

double yarn_growth(double factor, double growth) {
  return factor > 1 ? 1 + 0.1 * growth * std::log(factor) : 1;
}

std::vector<float> rope_divisors(const RopeScaling& scaling, double theta, int64_t dims) {
  std::vector<float> divisors;
  if (scaling.kind == Kind::kYarn) {
    const YarnDivisors yarn(scaling, theta, dims);
    for (int64_t i = 0; i < dims / 2; ++i) divisors.push_back(static_cast<float>(yarn.at(i)));
  }
  if (scaling.kind == Kind::kLlama3) {
    for (int64_t i = 0; i < dims; i += 2) {
      const double frequency = std::pow(theta, -static_cast<double>(i) / static_cast<double>(dims));
      divisors.push_back(static_cast<float>(llama3_divisor(frequency, scaling)));
    }
  }
  return divisors;
}

void check_rope_scaling(const RopeScaling& scaling, int64_t dims, std::string_view where) {
  check_number("magnitude", scaling.magnitude, where);
  if (scaling.kind == Kind::kNone) return;
  check_number("scaling factor", scaling.factor, where);
  if (scaling.kind == Kind::kLinear) return;
  check_size("original_max_position_embeddings", scaling.original_context, where);
  if (scaling.kind == Kind::kLlama3) {
    check_order("high_freq_factor", scaling.high_frequency_factor, "low_freq_factor",
                scaling.low_frequency_factor, where);
  } else if (scaling.kind == Kind::kYarn) {
    check_order("beta_fast", scaling.beta_fast, "beta_slow", scaling.beta_slow, where);
    if (scaling.score_growth != 0) check_number("mscale_all_dim", scaling.score_growth, where);
  } else if (!scaling.long_factors.empty()) {  // a GGUF has them as tensors
    check_factors("short_factor", scaling.short_factors, dims, where);
    check_factors("long_factor", scaling.long_factors, dims, where);
  }
}

RopeScaling read_rope_scaling(const Json& rope, const Json& config, std::string_view where) {
  // The key was "type" before transformers 4.43.
  const std::string type =
      json_string_or(rope, "rope_type", json_string_or(rope, "type", "default", where), where);
  if (type == "default") return {};
  if (type == "linear")
    return {.kind = Kind::kLinear, .factor = json_number(rope, "factor", where)};
  if (type == "llama3") return read_llama3(rope, where);
  if (type == "yarn") return read_yarn(rope, config, where);
  if (type == "longrope" || type == "su") return read_longrope(rope, config, where);
  throw Error(
      fmt::format("{}: 'rope_type: \"{}\"' is not supported; known: default, linear, llama3, "
                  "longrope, yarn",
                  where, type));
}

/// Llama 3's scaling is not in the keys: GGUF keeps it as the tensor rope_freqs.weight.
RopeScaling read_rope_scaling(const GgufKeys& keys, std::string_view where) {
  RopeScaling scaling;
  scaling.factor = keys.number_or("rope.scaling.factor", keys.number_or("rope.scale_linear", 0));
  scaling.original_context =
      keys.integer_or("rope.scaling.original_context_length", keys.integer_or("context_length", 0));
  scaling.magnitude = keys.number_or("rope.scaling.attn_factor", 1);
  const std::string type =
      keys.string_or("rope.scaling.type", scaling.factor == 0 ? "none" : "linear");
  if (type == "longrope" || type == "none" || (type == "linear" && scaling.factor == 0)) {
    scaling.kind = type == "longrope" ? Kind::kLongRope : Kind::kNone;
    scaling.factor = 1;
  } else if (type == "linear") {
    scaling.kind = Kind::kLinear;
  } else if (type == "yarn") {
    scaling.kind = Kind::kYarn;
    scaling.beta_fast = keys.number_or("rope.scaling.yarn_beta_fast", scaling.beta_fast);
    scaling.beta_slow = keys.number_or("rope.scaling.yarn_beta_slow", scaling.beta_slow);
    scaling.score_growth = 10 * keys.number_or("rope.scaling.yarn_log_multiplier", 0);
    // DeepSeek's two growths are taken to be the same, as stock llama.cpp does.
    if (scaling.score_growth == 0) scaling.magnitude *= yarn_growth(scaling.factor);
  } else {
    throw Error(fmt::format("{}: '{}' is '{}', not supported; known: linear, longrope, none, yarn",
                            where, keys.name("rope.scaling.type"), type));
  }
  return scaling;
}

void write_rope_scaling(const RopeScaling& scaling, const GgufKeys& keys, Metadata& metadata) {
  const auto number = [&](std::string_view key, double value) {
    metadata.set_float(keys.name(key), value);
  };
  const auto type = [&](const char* name) {
    metadata.set_string(keys.name("rope.scaling.type"), name);
  };
  double magnitude = scaling.magnitude;
  if (scaling.kind == Kind::kLinear) {
    type("linear");
    number("rope.scaling.factor", scaling.factor);
  } else if (scaling.kind == Kind::kYarn) {
    type("yarn");
    number("rope.scaling.factor", scaling.factor);
    number("rope.scaling.yarn_beta_fast", scaling.beta_fast);
    number("rope.scaling.yarn_beta_slow", scaling.beta_slow);
    if (scaling.score_growth != 0) {
      number("rope.scaling.yarn_log_multiplier", scaling.score_growth / 10);
    } else {
      magnitude /= yarn_growth(scaling.factor);
    }
  } else if (scaling.kind == Kind::kLongRope) {
    type("longrope");
  }
  if (scaling.kind == Kind::kYarn || scaling.kind == Kind::kLongRope) {
    metadata.set_uint32(keys.name("rope.scaling.original_context_length"),
                        scaling.original_context);
  }
  constexpr double kNoise = 1e-6;
  if (std::abs(magnitude - 1) > kNoise) number("rope.scaling.attn_factor", magnitude);
}

}  // namespace fewbits
