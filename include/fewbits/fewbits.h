#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fewbits/error.h"

// fewbits as a library: open a model, write it in another number format, measure what that cost,
// generate text.
//
//   fewbits::quantize({.model = "SmolLM2-135M", .out = "small.gguf", .to = "Q4_K_M"});
//   auto cost = fewbits::evaluate({.model = "small.gguf", .against = "SmolLM2-135M", .text =
//   text}); fewbits::Generator model("small.gguf"); std::string reply = model.generate("The capital
//   of France is", {.max_tokens = 20}).text;
//
// A model is a Hugging Face folder or a .gguf file. Every function throws fewbits::Error, with one
// line that says what to do, where the world is to blame. Nothing here reads the environment but
// FEWBITS_ISA or writes to stdout or stderr.
namespace fewbits {

/// Called now and then from the calling thread. Throw from it to stop the work; nothing
/// half-written stays behind.
using ProgressCallback = std::function<void(int64_t done, int64_t total)>;

struct QuantizeRequest {
  std::filesystem::path model;
  std::filesystem::path out;  ///< .gguf file; appears whole or not at all
  std::string to;             ///< "Q4_K_M", "Q8_0", "F16", ...
  std::vector<std::pair<std::string, std::string>> tensor_formats =
      {};                             ///< glob on tensor names, format
  std::string output_format = {};     ///< of the output layer; "" as `to` says
  std::string embedding_format = {};  ///< of the token embedding; "" as `to` says
  int threads = 0;  ///< 0: one for each processor. The bytes written do not depend on it.
  ProgressCallback progress = {};
};

struct QuantizeReport {
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  double bits_per_weight = 0;  ///< every byte of the file counts
  double relative_error = 0;   ///< sum of squared weight errors over sum of squared weights
  std::vector<std::string> warnings;
};

QuantizeReport quantize(const QuantizeRequest& request);

struct EvaluateRequest {
  std::filesystem::path model;
  std::optional<std::filesystem::path> against = {};  ///< the model whose predictions are right
  std::string text = {};
  int64_t chunks = 0;  ///< windows scored at most; 0: all
  int threads = 0;
  ProgressCallback progress = {};
};

/// Intervals are 95 %, from the means of windows.
struct EvaluateReport {
  double perplexity = 0, perplexity_low = 0, perplexity_high = 0;
  int64_t tokens = 0;  ///< scored

  struct Divergence {
    double kl_mean = 0, kl_low = 0, kl_high = 0, kl_p99 = 0, kl_p999 = 0, kl_max = 0;  ///< nats
    double top1_agreement = 0;  ///< share of positions where both models rank the same token first
  };
  std::optional<Divergence> divergence;  ///< with `against`
};

/// llama.cpp's perplexity protocol: windows of 512 tokens, the second half of each scored.
EvaluateReport evaluate(const EvaluateRequest& request);

struct TextOptions {
  int64_t max_tokens = 256;
  double temperature = 0;  ///< 0: always the likeliest token
  uint64_t seed = 0;
  std::vector<std::string> stop = {};
  std::function<void(std::string_view)> on_text = {};  ///< complete UTF-8, as it comes
};

struct Generation {
  std::string text;
  int64_t prompt_tokens = 0;
  int64_t generated_tokens = 0;
};

/// A model loaded and ready to generate. Not for use from two threads at once.
class Generator {
 public:
  explicit Generator(const std::filesystem::path& model, int threads = 0);
  ~Generator();
  Generator(Generator&&) noexcept;
  Generator& operator=(Generator&&) noexcept;

  Generation generate(std::string_view prompt, const TextOptions& options = {});

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "0.1.0"
std::string_view version();

}  // namespace fewbits
