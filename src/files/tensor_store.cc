#include "files/tensor_store.h"

#include <fmt/format.h>

#include "base/checked_math.h"
#include "base/error.h"
#include "files/errors.h"

namespace fewbits {

void StoredTensor::drop_pages() const {
  if (joined != nullptr) return joined->drop_pages();
  file->drop(view.bytes);
}

std::span<const std::byte> StoredTensor::row(int64_t index, std::vector<std::byte>& scratch) const {
  if (joined == nullptr) return view.row(index);
  scratch.resize(static_cast<size_t>(row_bytes(*view.format, view.columns())));
  joined->read_row(index, scratch.data());
  return scratch;
}

TensorStore::TensorStore(std::vector<std::unique_ptr<MappedFile>> files,
                         std::vector<StoredTensor> tensors, Metadata metadata,
                         std::vector<OtherTensor> others)
    : files_(std::move(files)),
      tensors_(std::move(tensors)),
      others_(std::move(others)),
      metadata_(std::move(metadata)) {
  index();
}

void TensorStore::index() {
  index_.clear();
  index_.reserve(tensors_.size());
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (!index_.emplace(tensors_[i].name, i).second) {
      throw Error(fmt::format("tensor {} is there twice", quote_name(tensors_[i].name)));
    }
  }
}

void TensorStore::join(const std::unordered_set<std::string>& parts,
                       std::vector<std::pair<std::string, CodedMatrix>> matrices) {
  std::erase_if(tensors_, [&](const StoredTensor& tensor) { return parts.contains(tensor.name); });
  others_.clear();
  for (auto& [name, matrix] : matrices) {
    joined_.push_back(std::make_unique<JoinedTensor>(std::move(matrix)));
    const JoinedTensor& joined = *joined_.back();
    tensors_.push_back({std::move(name), {&joined.format(), joined.shape(), {}}, nullptr, &joined});
  }
  index();
}

void TensorStore::replace(std::string_view name, ComputedMatrix matrix) {
  StoredTensor& tensor = tensors_[index_.at(name)];
  check(tensor.view.shape == (Shape{matrix.rows, matrix.columns}));
  joined_.push_back(std::make_unique<JoinedTensor>(std::move(matrix)));
  tensor.joined = joined_.back().get();
  tensor.view = {&tensor.joined->format(), tensor.joined->shape(), {}};
  tensor.file = nullptr;
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
