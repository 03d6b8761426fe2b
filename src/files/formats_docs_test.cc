#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "base/source_dir.h"
#include "files/layouts/compressed_tensors.h"
#include "formats/format.h"

// docs/formats.md is written from the registry:
//
//     FEWBITS_WRITE_DOCS=1 build/files_test --gtest_filter=Docs.*
namespace fewbits {
namespace {

std::string shared_scale(const Format& format) {
  if (format.is_float()) return "none";
  if (!format.has_levels()) return "16 or 32 values, below 256";
  std::string text;
  if (format.sub_blocks() > 1) {
    text = fmt::format("{} values, below {}", format.sub_block_values, format.block_values);
  } else if (format.sharing == Sharing::kBlock || format.name == "nvfp4_tensor") {
    text = fmt::format("{} values", format.block_values);
  }
  if (format.sharing == Sharing::kRow) text = "channel";
  if (format.sharing == Sharing::kTensor) text += text.empty() ? "tensor" : ", below tensor";
  return text;
}

std::string levels_of(const Format& format) {
  if (format.is_float()) return "floats";
  if (!format.has_levels()) return "vectors";
  float low = 0, high = 0;
  size_t count = 0;
  for (size_t code = format.lowest_code; code < format.levels.size(); ++code) {
    const float level = format.levels[code];
    if (!std::isfinite(level)) continue;
    ++count;
    low = std::min(low, level);
    high = std::max(high, level);
  }
  const bool integers = format.bounds.empty();
  return fmt::format("{} {} to {}", integers ? "integers" : fmt::format("{} levels,", count), low,
                     high);
}

std::string where_of(const Format& format) {
  std::string text = format.gguf_type >= 0 ? "GGUF" : "";
  if (!format.can_encode()) text += ", read only";
  if (compressed_tensors_holds(format)) text += text.empty() ? "folder" : ", folder";
  return text;
}

std::string generated() {
  std::string text =
      "# Number formats\n\n"
      "Written from the registry by `FEWBITS_WRITE_DOCS=1 build/files_test "
      "--gtest_filter=Docs.*`; a test checks that it is current.\n\n"
      "Bits count what a block stores, scales included; a scale of a channel or tensor (4 bytes) "
      "comes on top. The error is the mean square error on normal data, relative to its variance, "
      "with the best search and no importance, in rows of 4096 values. `GGUF`: llama.cpp loads "
      "such "
      "files. `folder`: `quantize IN FOLDER --to FORMAT` writes compressed-tensors, which vLLM "
      "loads. The loss of every format that can be written can be measured in any engine by "
      "`quantize --emulate FORMAT`, which rounds and writes 16 bits.\n\n"
      "| format | bits | block | scale of | levels | error | dB | where |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const Format* format : formats()) {
    const double error = format->gaussian_error;
    text += fmt::format("| {} | {:.4g} | {} | {} | {} | {} | {} | {} |\n", format->name,
                        format->bits_per_value(), format->block_values, shared_scale(*format),
                        levels_of(*format), error > 0 ? fmt::format("{:.2e}", error) : "",
                        error > 0 ? fmt::format("{:.1f}", -10 * std::log10(error)) : "",
                        where_of(*format));
  }
  return text;
}

TEST(Docs, TheTableOfFormatsIsCurrent) {
  const auto path = source_dir() / "docs/formats.md";
  if (std::getenv("FEWBITS_WRITE_DOCS")) std::ofstream(path) << generated();
  std::ifstream file(path);
  const std::string found{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(found == generated()) << "write it again: FEWBITS_WRITE_DOCS=1";
}

}  // namespace
}  // namespace fewbits
