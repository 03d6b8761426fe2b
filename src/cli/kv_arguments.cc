#include "cli/kv_arguments.h"

namespace fewbits::cli {

KvOptions KvArguments::options() const {
  KvOptions options = kv_options(formats);
  if (oldest) options.oldest = *oldest;
  if (recent) options.recent = *recent;
  if (keep_mean) options.centred = false;
  return options;
}

void declare(KvArguments& arguments, CLI::App& verb) {
  constexpr int64_t kMost = int64_t{1} << 20;
  verb.add_option("--kv", arguments.formats,
                  "Cache of keys and values, K or K:V, of f16, bf16, fp8, q8_0, q4_0, turbo2-4, "
                  "kivi2, kivi4, and for K qjl2-4")
      ->capture_default_str();
  verb.add_option("--kv-first", arguments.oldest,
                  "First tokens that stay f16 in a coded cache; by default 4 below 8 bits")
      ->check(CLI::Range(int64_t{0}, kMost));
  verb.add_option("--kv-last", arguments.recent,
                  "Last tokens that stay f16 in a coded cache; by default 128 below 8 bits")
      ->check(CLI::Range(int64_t{0}, kMost));
  verb.add_flag("--kv-keep-mean", arguments.keep_mean,
                "Code keys of few bits with their mean, which softmax does not see");
}

}  // namespace fewbits::cli
