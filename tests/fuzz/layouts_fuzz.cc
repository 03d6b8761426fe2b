// A quantization_config, a zero byte, and a safetensors file: the parts of weights become matrices
// whose every row can be read, or Error is thrown.
#include <algorithm>
#include <string_view>

#include "base/error.h"
#include "files/layouts/join.h"
#include "files/safetensors.h"

namespace {

constexpr int64_t kMostValues = int64_t{1} << 20;  // of one matrix: time matters here, not size

void read_all_rows(const fewbits::StoredTensor& tensor) {
  if (tensor.view.values() > kMostValues) return;
  std::vector<std::byte> scratch;
  for (int64_t row = 0; row < tensor.view.rows(); ++row) tensor.row(row, scratch);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fewbits;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t end = text.find('\0');
  if (end == text.npos) return 0;
  try {
    const Json config = parse_json(text.substr(0, end), "config");
    if (!config.is_object()) return 0;
    ParsedFile file = parse_safetensors(std::as_bytes(std::span(data, size)).subspan(end + 1), "f");
    TensorStore store({}, std::move(file.tensors), {}, std::move(file.others));
    join_tensors(store, config, "fuzz");
    for (const StoredTensor& tensor : store.tensors()) read_all_rows(tensor);
  } catch (const Error&) {
  }
  return 0;
}
