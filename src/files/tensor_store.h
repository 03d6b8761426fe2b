#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/mapped_file.h"
#include "files/joined_tensor.h"
#include "files/metadata.h"
#include "formats/tensor_view.h"

namespace fewbits {

/// A tensor in a mapped file. `file` outlives nothing but its store; use it to drop pages that have
/// been read.
struct StoredTensor {
  std::string name;
  TensorView view;
  const MappedFile* file = nullptr;
  /// Where its rows come from if they lie in no file as they are; `view` has no bytes then.
  const JoinedTensor* joined = nullptr;

  /// Bytes in files.
  int64_t bytes() const { return joined ? joined->stored_bytes() : std::ssize(view.bytes); }
  void drop_pages() const;
  /// A row in the bytes of the format; in `scratch` where it must be put together.
  std::span<const std::byte> row(int64_t index, std::vector<std::byte>& scratch) const;
};

/// A tensor of numbers that are no weights by themselves: codes, zero points, scales in 8 bits.
struct OtherTensor {
  std::string name;
  std::string dtype;  ///< in the words of safetensors: "I32", "F8_E4M3"
  Shape shape;
  FilePart part;
};

/// What a header says, as the parsers give it: checked against the bytes, each tensor's `file`
/// still null.
struct ParsedFile {
  std::vector<StoredTensor> tensors;
  Metadata metadata;
  std::vector<OtherTensor> others = {};
};

/// Named tensors of one checkpoint, whatever files they lie in, in file order, and GGUF metadata
/// where the file has it. Every tensor's bytes have been checked to lie inside its file, apart from
/// every other tensor's. Movable.
class TensorStore {
 public:
  TensorStore() = default;

  /// `tensors` refer to `files` by address. Throws Error on a duplicate name.
  TensorStore(std::vector<std::unique_ptr<MappedFile>> files, std::vector<StoredTensor> tensors,
              Metadata metadata, std::vector<OtherTensor> others = {});

  /// Matrices that the store's tensors are parts of take the place of these parts. `parts`: their
  /// names. No other tensor remains. Throws Error on a duplicate name.
  void join(const std::unordered_set<std::string>& parts,
            std::vector<std::pair<std::string, CodedMatrix>> matrices);

  /// Gives the tensor of that name the values of `matrix`, in F32. Its place stays the same.
  /// REQUIRES: there is one, of these sizes.
  void replace(std::string_view name, ComputedMatrix matrix);

  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// Only of a model folder that is still to be joined (layouts/join.h).
  const std::vector<OtherTensor>& others() const { return others_; }
  const StoredTensor* find(std::string_view name) const;
  const Metadata& metadata() const { return metadata_; }

  /// Bytes of all files together, headers included.
  int64_t file_bytes() const;

 private:
  void index();

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<std::unique_ptr<JoinedTensor>> joined_;
  std::vector<StoredTensor> tensors_;
  std::vector<OtherTensor> others_;
  std::unordered_map<std::string_view, size_t>
      index_;  // keys lie in tensors_, whose elements never move
  Metadata metadata_;
};

/// Bytes of a tensor in `format`, or nothing where they or the number of values do not fit into
/// int64_t. Sizes may be 0. REQUIRES: no size is negative, the last is whole blocks.
std::optional<int64_t> tensor_bytes(const Format& format, const Shape& shape);

}  // namespace fewbits
