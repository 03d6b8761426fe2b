#include "calibrate/samples.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/mapped_file.h"

namespace fewbits {
namespace {

void refuse_no_text(std::span<const std::byte> bytes, const std::filesystem::path& path) {
  if (bytes.empty()) throw Error(fmt::format("{}: calibration text: it is empty", path.string()));
  // Texts hold no zeros; models, archives and UTF-16 do.
  if (std::find(bytes.begin(), bytes.end(), std::byte{0}) == bytes.end()) return;
  throw Error(
      fmt::format("{}: calibration text: it is binary (it holds zero bytes); text in UTF-8 "
                  "is expected",
                  path.string()));
}

std::vector<Token> tokens_of(const Tokenizer& tokenizer,
                             std::span<const std::filesystem::path> texts) {
  std::vector<Token> all;
  for (const auto& path : texts) {
    const MappedFile file = MappedFile::open(path);
    const auto bytes = file.bytes();
    refuse_no_text(bytes, path);
    const auto tokens =
        tokenizer.encode({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  return all;
}

}  // namespace

int64_t longest(std::span<const std::vector<Token>> samples) {
  size_t length = 0;
  for (const auto& sample : samples) length = std::max(length, sample.size());
  return static_cast<int64_t>(length);
}

std::vector<std::vector<Token>> take_samples(const Tokenizer& tokenizer,
                                             std::span<const std::filesystem::path> texts,
                                             const SampleOptions& options) {
  check(options.count > 0 && options.length > 0);
  const std::vector<Token> tokens = tokens_of(tokenizer, texts);
  const int64_t runs = static_cast<int64_t>(tokens.size()) / options.length;
  if (runs == 0) {
    throw Error(fmt::format("calibration text: {} tokens, at least {} are needed; give more text",
                            tokens.size(), options.length));
  }
  const int64_t count = std::min(options.count, runs);
  std::vector<std::vector<Token>> samples;
  for (int64_t i = 0; i < count; ++i) {
    const auto first = tokens.begin() + i * runs / count * options.length;
    samples.emplace_back(first, first + options.length);
    if (tokenizer.adds_bos()) samples.back().front() = tokenizer.bos().value();
  }
  return samples;
}

}  // namespace fewbits
