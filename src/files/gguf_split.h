#pragma once

#include <filesystem>
#include <functional>
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

/// Writes a whole GGUF once more in files of at most `file_bytes` (more only where one tensor is
/// larger), which get their names one after the other, the first last. Returns their number.
/// `on_bytes` is told how many bytes more are done.
int64_t split_gguf(const std::filesystem::path& source, const std::filesystem::path& whole,
                   int64_t file_bytes, const std::function<void(int64_t)>& on_bytes);

}  // namespace fewbits
