#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/kv_cache.h"

namespace fewbits::cli {

/// How verbs name a format of the cache.
struct KvArguments {
  std::string formats = "f16";
  std::optional<int64_t> oldest, recent;
  bool keep_mean = false;

  /// Throws Error where a name is unknown.
  KvOptions options() const;
};

void declare(KvArguments& arguments, CLI::App& verb);

}  // namespace fewbits::cli
