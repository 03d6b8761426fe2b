#include "calibrate/model_identity.h"

#include <fmt/format.h>

#include <cstddef>
#include <span>
#include <vector>

#include "base/sha256.h"

namespace fewbits {
namespace {

void add(Sha256& hash, std::string_view text) {
  hash.update(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace

std::string model_identity(const Model& model) {
  Sha256 hash;
  std::vector<float> row;
  for (const Weight& weight : model.weights) {
    add(hash, fmt::format("{} {} {}\n", weight.gguf_name, weight.rows(), weight.columns()));
    row.resize(static_cast<size_t>(weight.columns()));
    for (const int64_t index : {int64_t{0}, weight.rows() / 2, weight.rows() - 1}) {
      weight.read_row(index, row.data());
      hash.update(std::as_bytes(std::span(row)));
    }
  }
  return hash.finish();
}

}  // namespace fewbits
