// Bytes as a safetensors file: the tensors lie inside them one after another, without holes but for
// tensors that are left out, or Error is thrown.
#include "base/error.h"
#include "files/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fewbits;
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const ParsedFile file = parse_safetensors(bytes, "fuzz");
    const std::byte* end = nullptr;
    for (const StoredTensor& tensor : file.tensors) {
      const auto part = tensor.view.bytes;
      check(end == nullptr || part.data() >= end);
      end = part.data() + part.size();
      check(part.data() > bytes.data() && end <= bytes.data() + bytes.size());
      const auto expected = tensor_bytes(*tensor.view.format, tensor.view.shape);
      check(expected == static_cast<int64_t>(part.size()));
    }
  } catch (const Error&) {
  }
  return 0;
}
