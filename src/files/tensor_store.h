#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "files/metadata.h"
#include "formats/tensor_view.h"

namespace fewbits {

/// A tensor in a mapped file. `file` outlives nothing but its store; use it to drop pages that have
/// been read.
struct StoredTensor {
  std::string name;
  TensorView view;
  const MappedFile* file = nullptr;
};

/// What a header says, as the parsers give it: checked against the bytes, each tensor's `file`
/// still null.
struct ParsedFile {
  std::vector<StoredTensor> tensors;
  Metadata metadata;
};

/// Named tensors of one checkpoint, whatever files they lie in, in file order, and GGUF metadata
/// where the file has it. Every tensor's bytes have been checked to lie inside its file, apart from
/// every other tensor's. Movable.
class TensorStore {
 public:
  TensorStore() = default;

  /// `tensors` refer to `files` by address. Throws Error on a duplicate name.
  TensorStore(std::vector<std::unique_ptr<MappedFile>> files, std::vector<StoredTensor> tensors,
              Metadata metadata);

  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* find(std::string_view name) const;
  const Metadata& metadata() const { return metadata_; }

  /// Bytes of all files together, headers included.
  int64_t file_bytes() const;

 private:
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<StoredTensor> tensors_;
  std::unordered_map<std::string_view, size_t>
      index_;  // keys lie in tensors_, whose elements never move
  Metadata metadata_;
};

/// Bytes of a tensor in `format`, or nothing where they or the number of values do not fit into
/// int64_t. Sizes may be 0. REQUIRES: no size is negative, the last is whole blocks.
std::optional<int64_t> tensor_bytes(const Format& format, const Shape& shape);

}  // namespace fewbits
