// Bytes as a GGUF file: parsing gives tensors that lie inside them and can be decoded, and a header
// that can be written again, or it throws Error.
#include <algorithm>
#include <vector>

#include "base/error.h"
#include "files/gguf.h"

namespace {

using namespace fewbits;

constexpr int64_t kMostValues = 4096;  // of a tensor are decoded: broken blocks are seen early

void decode_some(const TensorView& view) {
  const int64_t block = view.format->block_values;
  const int64_t count = std::min(view.values(), kMostValues) / block * block;
  std::vector<float> values(static_cast<size_t>(count));
  if (count > 0) decode(*view.format, view.bytes.data(), count, values.data());
}

void check_inside(std::span<const std::byte> part, std::span<const std::byte> file) {
  check(part.data() >= file.data() && part.data() + part.size() <= file.data() + file.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const ParsedFile file = parse_gguf(bytes, "fuzz");
    std::vector<PlannedTensor> planned;
    for (const StoredTensor& tensor : file.tensors) {
      check_inside(tensor.view.bytes, bytes);
      decode_some(tensor.view);
      planned.push_back({tensor.name, tensor.view.format, tensor.view.shape});
    }
    check(gguf_file_bytes(file.metadata, planned) > 0);
  } catch (const Error&) {
  }
  return 0;
}
