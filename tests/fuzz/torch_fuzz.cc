// Bytes as a PyTorch file and as the pickle in one: every tensor lies inside the bytes, or Error is
// thrown.
#include "base/error.h"
#include "files/pickle.h"
#include "files/torch_file.h"

namespace {

using namespace fewbits;

void read_archive(std::span<const std::byte> bytes) {
  for (const StoredTensor& tensor : parse_torch(bytes, "fuzz").tensors) {
    const auto part = tensor.view.bytes;
    const auto expected = tensor_bytes(*tensor.view.format, tensor.view.shape);
    check(expected == static_cast<int64_t>(part.size()));
    check(part.empty() ||
          (part.data() > bytes.data() && part.data() + part.size() <= bytes.data() + bytes.size()));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    read_archive(bytes);
  } catch (const Error&) {
  }
  try {
    for (const PickledTensor& tensor : read_pickle(bytes, "fuzz")) {
      for (const int64_t extent : tensor.shape) check(extent >= 0);
    }
  } catch (const Error&) {
  }
  return 0;
}
