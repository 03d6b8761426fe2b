#include "files/tensor_store.h"

#include <fmt/format.h>

#include "base/checked_math.h"
#include "base/error.h"
#include "files/errors.h"

namespace fewbits {

TensorStore::TensorStore(std::vector<std::unique_ptr<MappedFile>> files,
                         std::vector<StoredTensor> tensors, Metadata metadata)
    : files_(std::move(files)), tensors_(std::move(tensors)), metadata_(std::move(metadata)) {
  index_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!index_.emplace(tensors_[i].name, i).second) {
      throw Error(fmt::format("tensor {} is there twice", quote_name(tensors_[i].name)));
    }
  }
}

const StoredTensor* TensorStore::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

int64_t TensorStore::file_bytes() const {
  int64_t bytes = 0;
  for (const auto& file : files_) bytes += file->size();
  return bytes;
}

std::optional<int64_t> tensor_bytes(const Format& format, const Shape& shape) {
  std::optional<int64_t> rows = 1;
  for (size_t i = 0; rows && i + 1 < shape.size(); ++i) rows = checked_multiply(*rows, shape[i]);
  const int64_t columns = shape.empty() ? 1 : shape.back();
  if (!rows || !checked_multiply(*rows, columns)) return std::nullopt;
  check(columns % format.block_values == 0);
  const auto row = checked_multiply(columns / format.block_values, format.block_bytes);
  return row ? checked_multiply(*rows, *row) : std::nullopt;
}

}  // namespace fewbits
