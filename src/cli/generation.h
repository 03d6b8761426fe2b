#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "cli/activation_arguments.h"
#include "cli/kv_arguments.h"
#include "engine/generate.h"

namespace fewbits::cli {

/// What `run` and `chat` share: the model and how to pick tokens.
struct GenerationArguments {
  std::string model;
  GenerateOptions options;
  int64_t context = 0;  ///< 0: the model's, at most kDefaultContext
  int threads = 0;
  KvArguments kv;
  ActivationArguments activations;
  bool json = false;
};

inline constexpr int64_t kDefaultContext = 8192;

void declare(GenerationArguments& arguments, CLI::App& verb);

/// Positions to reserve in the cache. Warns where more are asked for than the model was trained on.
int64_t context_for(const ModelConfig& config, const GenerationArguments& arguments);

/// "31 tokens at 120 tokens/s, then 64 at 45.3 tokens/s; stopped: end of text" on stderr.
void report_speed(const GenerateResult& result);

}  // namespace fewbits::cli
