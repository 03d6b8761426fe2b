#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "files/output_file.h"
#include "formats/tensor_view.h"

namespace fewbits {

/// A tensor as a safetensors header names it; `dtype` in its words ("F16", "I32", "F8_E4M3").
struct SafetensorsEntry {
  std::string name;
  std::string dtype;
  Shape shape;
  int64_t bytes;
};

/// Writes a safetensors file: the header at once, then the bytes of the tensors in the order in
/// which they were given. The file appears with `commit`; until then the calls are GgufWriter's.
class SafetensorsWriter {
 public:
  /// Throws Error where the file cannot be written (see OutputFile) or a name comes twice.
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<SafetensorsEntry>& entries,
                    OutputFile::Lifetime lifetime = OutputFile::Lifetime::kProcess);

  void append(std::span<const std::byte> bytes) { file_.append(bytes); }
  int64_t file_bytes() const { return bytes_; }

  // Offsets count from where the header ends.
  void read(int64_t offset, std::span<std::byte> out) const {
    file_.read(std::ssize(header_) + offset, out);
  }
  bool holds(int64_t bytes) const { return file_.size() >= std::ssize(header_) + bytes; }
  /// Goes on behind the first `bytes`. REQUIRES: holds(bytes), or bytes is 0.
  void resume(int64_t bytes);
  void sync() { file_.sync(); }
  void keep() { file_.keep(); }
  /// Throws Error where the header reads back as something else than was written.
  void verify_header();

  /// REQUIRES: all bytes have been appended.
  void commit();

 private:
  std::string header_;
  int64_t bytes_ = 0;
  OutputFile file_;
};

}  // namespace fewbits
