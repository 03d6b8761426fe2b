#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "files/metadata.h"
#include "files/output_file.h"
#include "files/tensor_store.h"

// GGUF, versions 2 and 3, little endian: a header of key-value metadata and tensor infos, then the tensors' bytes, each
// at a multiple of general.alignment (32 unless the file says otherwise). GGUF lists sizes innermost first; Shape has
// them outermost first. Source: ggml's docs/gguf.md.
namespace fewbits {

/// Throws Error, in one line with the path, where anything in the file is not as it must be: magic, version, counts,
/// string lengths, duplicate keys or names, unknown types (the known ones are listed), sizes that overflow, row lengths
/// that are no whole blocks, offsets that are unaligned, outside the file or overlap.
TensorStore open_gguf(const std::filesystem::path& path);

/// What will be written: order, names, shapes and formats of all tensors are known before the first byte.
struct PlannedTensor {
  std::string name;
  const Format* format;
  Shape shape;
};

/// Bytes of the finished file.
int64_t gguf_file_bytes(const Metadata& metadata, std::span<const PlannedTensor> tensors);

/// Writes a GGUF v3 file front to back, tensor after tensor, in pieces of any size. Nothing appears under the final name
/// before `commit` (see OutputFile).
class GgufWriter {
 public:
  /// Checks the disk space and writes the header.
  GgufWriter(const std::filesystem::path& path, const Metadata& metadata,
             std::vector<PlannedTensor> tensors);

  /// The next bytes of the tensor that is being written; tensors come in the planned order.
  void append(std::span<const std::byte> bytes);

  /// REQUIRES: every planned byte was appended.
  void commit();

 private:
  OutputFile file_;
  std::vector<PlannedTensor> tensors_;
  int64_t alignment_;
  size_t current_ = 0;
  int64_t left_in_current_ = 0;
};

}  // namespace fewbits
