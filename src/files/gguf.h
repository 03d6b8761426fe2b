#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/metadata.h"
#include "files/output_file.h"
#include "files/tensor_store.h"

// GGUF, versions 2 and 3, little endian: a header of key-value metadata and tensor infos, then the
// tensors' bytes, each at a multiple of general.alignment (32 unless the file says otherwise). GGUF
// lists sizes innermost first; Shape has them outermost first. Source: ggml's docs/gguf.md.
//
//     "GGUF" | u32 version | u64 tensors | u64 entries
//     entry:   string key | u32 value type | value          string: u64 length, bytes
//     tensor:  string name | u32 dimensions | u64 size ... | u32 ggml type | u64 offset in the data
//     padding, then the data
namespace fewbits {

/// Throws Error, in one line with the path, where anything in the file is not as it must be: magic,
/// version, counts, string lengths, duplicate keys or names, unknown types (the known ones are
/// listed), sizes that overflow, row lengths that are no whole blocks, offsets that are unaligned,
/// outside the file or overlap. Reads the header only.
TensorStore open_gguf(const std::filesystem::path& path);

/// The same for a whole file in memory; `where` begins every error. The tensors borrow `bytes`.
ParsedFile parse_gguf(std::span<const std::byte> bytes, std::string_view where);

/// What will be written: order, names, shapes and formats of all tensors are known before the first
/// byte.
struct PlannedTensor {
  std::string name;
  const Format* format;
  Shape shape;
};

/// Bytes of the finished file.
int64_t gguf_file_bytes(const Metadata& metadata, std::span<const PlannedTensor> tensors);

/// Writes a GGUF v3 file front to back, tensor after tensor, in pieces of any size. Nothing appears
/// under the final name before `commit` (see OutputFile). The metadata's general.alignment is kept
/// to.
class GgufWriter {
 public:
  /// Checks the disk space and writes the header. Throws Error where GGUF cannot hold the plan: a
  /// tensor of more than 4 sizes or of a format that GGUF has not, a name twice.
  GgufWriter(const std::filesystem::path& path, const Metadata& metadata,
             std::vector<PlannedTensor> tensors,
             OutputFile::Lifetime lifetime = OutputFile::Lifetime::kProcess);

  /// Where the bytes of a tensor begin; of the number of tensors: where the file ends.
  int64_t offset(size_t tensor) const;

  int64_t bytes(size_t tensor) const;
  int64_t file_bytes() const { return offset(tensors_.size()); }

  /// With Lifetime::kResumed: whether the bytes of the first `tensors` are all there.
  bool holds(size_t tensors) const { return file_.size() >= offset(tensors); }

  /// Goes on behind the first `tensors`, whose bytes are there already. Only before the first
  /// append. REQUIRES: holds(tensors).
  void resume(size_t tensors);

  /// Everything appended is on the disk when this returns. What a run that stops leaves behind
  /// then can be resumed.
  void sync() { file_.sync(); }
  /// What lies there, see OutputFile.
  void read(int64_t offset, std::span<std::byte> out) const { file_.read(offset, out); }
  /// Reads back all but the tensors' bytes. Throws Error where it is not as it was written.
  void verify_rest();
  void keep() { file_.keep(); }

  /// The next bytes of the tensor that is being written; tensors come in the planned order.
  /// REQUIRES: they end no later than that tensor.
  void append(std::span<const std::byte> bytes);

  /// Gives the last entry of the metadata, a string, another value of the same length: what is
  /// known only when all bytes are. REQUIRES: both.
  void replace_last_string(std::string_view value);

  /// Where the file can be read before `commit`, as far as it goes.
  const std::filesystem::path& temporary() const { return file_.temporary(); }

  /// REQUIRES: every planned byte was appended.
  void commit();

 private:
  void finish_tensors();

  std::string header_;
  OutputFile file_;
  std::vector<PlannedTensor> tensors_;
  int64_t alignment_;
  int64_t metadata_end_ = 0;  ///< offset behind the last entry
  int64_t last_string_ = -1;  ///< bytes of the last entry's value; -1: no string
  size_t current_ = 0;
  int64_t left_in_current_ = 0;
};

/// The metadata's general.alignment, 32 where it has none. Throws Error where it is no uint32, or
/// no power of two from 8 to 2^30.
int64_t gguf_alignment(const Metadata& metadata);

}  // namespace fewbits
