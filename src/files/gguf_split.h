#pragma once

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "files/gguf.h"

// A GGUF in several files, as llama.cpp names and loads them: NAME-00001-of-00003.gguf and so on.
// The first has the whole metadata; each has split.no (from 0), split.count and
// split.tensors.count (of all files together).
namespace fewbits {

struct OpenGguf {
  std::unique_ptr<MappedFile> file;
  ParsedFile parsed;
};
OpenGguf open_gguf_file(const std::filesystem::path& path);

/// split.count; 1 where the file is whole. Throws Error where it is no count.
int64_t split_count(const Metadata& metadata, std::string_view where);

/// Opens all files of which `path` is one. Throws Error where its name does not say which, or one
/// is missing or says something else than the first.
TensorStore open_split_gguf(const std::filesystem::path& path, int64_t count);

/// Name of file `index` (from 0) of `count` where the whole would be called `whole`.
std::filesystem::path split_name(const std::filesystem::path& whole, int64_t index, int64_t count);

struct SplitOptions {
  int64_t file_bytes =
      0;  ///< at most, but for a larger tensor; 0: one file, under the whole's name
  OutputFile::Lifetime lifetime = OutputFile::Lifetime::kProcess;
};

/// Writes a GGUF in one file or several, each as GgufWriter does: the calls are its, but that a
/// tensor is named. None has its name before `commit`, which gives them one after the other, the
/// first last.
class SplitGgufWriter {
 public:
  /// Throws Error as GgufWriter does, and where there would be more files than there can be.
  SplitGgufWriter(const std::filesystem::path& whole, const Metadata& metadata,
                  const std::vector<PlannedTensor>& tensors, const SplitOptions& options = {});

  int64_t files() const { return std::ssize(parts_); }
  int64_t file_bytes() const;

  int64_t bytes(size_t tensor) const;
  void read(size_t tensor, int64_t offset, std::span<std::byte> out) const;
  bool holds(size_t tensors) const;
  void resume(size_t tensors);
  void append(size_t tensor, std::span<const std::byte> bytes);
  void sync();
  void keep();
  /// Of the metadata, which the first file has.
  void replace_last_string(std::string_view value);
  void verify_rest();
  void commit();

  /// Names under which the files can be opened before `commit`, while this lives.
  class Readable {
   public:
    explicit Readable(const SplitGgufWriter& writer);
    ~Readable();
    Readable(const Readable&) = delete;
    Readable& operator=(const Readable&) = delete;
    const std::filesystem::path& path() const { return path_; }

   private:
    std::filesystem::path folder_, path_;
  };

 private:
  struct Part {
    size_t begin, end;  ///< tensors
    std::unique_ptr<GgufWriter> writer;

    size_t inside(size_t tensors) const { return std::clamp(tensors, begin, end) - begin; }
  };
  const Part& part_of(size_t tensor) const;

  std::filesystem::path whole_;
  std::vector<Part> parts_;
};

}  // namespace fewbits
