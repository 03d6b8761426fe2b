#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>
#include <utility>

#include "base/checked_math.h"
#include "base/error.h"
#include "files/errors.h"
#include "files/gguf.h"

namespace fewbits {
namespace {

constexpr uint32_t kVersion = 3;
constexpr size_t kMaxDimensions = 4;

/// Little-endian values one after another.
class HeaderBytes {
 public:
  template <class Number>
  void number(Number value) {
    static_assert(std::is_arithmetic_v<Number>);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  /// REQUIRES: the value fits.
  template <class Integer>
  void integer(int64_t value) {
    check(std::in_range<Integer>(value));
    number(static_cast<Integer>(value));
  }

  void string(std::string_view text) {
    number(uint64_t{text.size()});
    bytes_.append(text);
  }

  void pad(int64_t alignment) {
    bytes_.resize(static_cast<size_t>(round_up(static_cast<int64_t>(bytes_.size()), alignment)));
  }

  int64_t size() const { return std::ssize(bytes_); }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;  // gcc 12 warns falsely about a vector of bytes
};

void put_integer(HeaderBytes& out, ValueType type, int64_t value) {
  switch (type) {
    case ValueType::kUint8:
      return out.integer<uint8_t>(value);
    case ValueType::kInt8:
      return out.integer<int8_t>(value);
    case ValueType::kUint16:
      return out.integer<uint16_t>(value);
    case ValueType::kInt16:
      return out.integer<int16_t>(value);
    case ValueType::kUint32:
      return out.integer<uint32_t>(value);
    case ValueType::kInt32:
      return out.integer<int32_t>(value);
    case ValueType::kUint64:
      return out.integer<uint64_t>(value);
    case ValueType::kInt64:
      return out.integer<int64_t>(value);
    default:
      check(type == ValueType::kBool && (value == 0 || value == 1));
      return out.integer<uint8_t>(value);
  }
}

void put_element(HeaderBytes& out, ValueType type, int64_t value) {
  put_integer(out, type, value);
}

void put_element(HeaderBytes& out, ValueType type, double value) {
  if (type == ValueType::kFloat64) return out.number(value);
  check(type == ValueType::kFloat32);
  out.number(static_cast<float>(value));
}

void put_element(HeaderBytes& out, ValueType type, const std::string& value) {
  check(type == ValueType::kString);
  out.string(value);
}

void put_element(HeaderBytes& out, ValueType type, const MetadataArray& array) {
  check(type == ValueType::kArray && array.element != ValueType::kArray);
  out.number(static_cast<uint32_t>(array.element));
  out.number(uint64_t{array.size()});
  std::visit(
      [&](const auto& elements) {
        for (const auto& element : elements) put_element(out, array.element, element);
      },
      array.values);
}

void put_metadata(HeaderBytes& out, const Metadata& metadata) {
  for (const Metadata::Entry& entry : metadata.entries()) {
    out.string(entry.key);
    out.number(static_cast<uint32_t>(entry.value.type));
    std::visit([&](const auto& value) { put_element(out, entry.value.type, value); },
               entry.value.value);
  }
}

[[noreturn]] void refuse(const PlannedTensor& tensor, std::string_view what) {
  throw Error(fmt::format("tensor {}: {}", quote_name(tensor.name), what));
}

int64_t planned_bytes(const PlannedTensor& tensor) {
  const auto bytes = tensor_bytes(*tensor.format, tensor.shape);
  if (!bytes) refuse(tensor, "larger than any file");
  return *bytes;
}

void refuse_what_gguf_has_not(std::span<const PlannedTensor> tensors) {
  std::unordered_set<std::string_view> names;
  for (const PlannedTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) refuse(tensor, "there twice");
    if (tensor.shape.size() > kMaxDimensions) refuse(tensor, "GGUF holds at most 4 dimensions");
    if (tensor.format->gguf_type < 0) {
      refuse(tensor, fmt::format("GGUF has no format {}", tensor.format->name));
    }
  }
}

struct Header {
  std::string bytes;         ///< everything before the first tensor's bytes, padding included
  int64_t metadata_end = 0;  ///< offset behind the last entry
  int64_t data_bytes = 0;    ///< of what follows
};

Header header_of(const Metadata& metadata, std::span<const PlannedTensor> tensors) {
  const int64_t alignment = gguf_alignment(metadata);
  refuse_what_gguf_has_not(tensors);
  HeaderBytes out;
  for (const char c : std::string_view("GGUF")) out.number(c);
  out.number(kVersion);
  out.number(uint64_t{tensors.size()});
  out.number(uint64_t{metadata.entries().size()});
  put_metadata(out, metadata);
  Header header;
  header.metadata_end = out.size();
  for (const PlannedTensor& tensor : tensors) {
    out.string(tensor.name);
    out.integer<uint32_t>(static_cast<int64_t>(tensor.shape.size()));
    for (size_t i = tensor.shape.size(); i-- > 0;) out.integer<uint64_t>(tensor.shape[i]);
    out.integer<uint32_t>(tensor.format->gguf_type);
    out.integer<uint64_t>(header.data_bytes);
    const auto end = checked_add(header.data_bytes, planned_bytes(tensor));
    if (!end || *end > INT64_MAX / 2) refuse(tensor, "the file would be larger than any disk");
    header.data_bytes = round_up(*end, alignment);
  }
  out.pad(alignment);
  header.bytes = out.take();
  return header;
}

constexpr std::array<std::byte, 4096> kZeros{};

}  // namespace

int64_t gguf_file_bytes(const Metadata& metadata, std::span<const PlannedTensor> tensors) {
  const Header header = header_of(metadata, tensors);
  return std::ssize(header.bytes) + header.data_bytes;
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const Metadata& metadata,
                       std::vector<PlannedTensor> tensors, OutputFile::Lifetime lifetime)
    : file_(path, gguf_file_bytes(metadata, tensors), lifetime),
      tensors_(std::move(tensors)),
      alignment_(gguf_alignment(metadata)) {
  Header header = header_of(metadata, tensors_);
  header_ = std::move(header.bytes);
  metadata_end_ = header.metadata_end;
  if (!metadata.entries().empty()) {
    const auto* last = std::get_if<std::string>(&metadata.entries().back().value.value);
    if (last != nullptr) last_string_ = std::ssize(*last);
  }
  if (lifetime == OutputFile::Lifetime::kProcess) resume(0);
}

int64_t GgufWriter::offset(size_t tensor) const {
  check(tensor <= tensors_.size());
  int64_t offset = std::ssize(header_);
  for (size_t i = 0; i < tensor; ++i) {
    offset = round_up(offset + planned_bytes(tensors_[i]), alignment_);
  }
  return offset;
}

int64_t GgufWriter::bytes(size_t tensor) const {
  return planned_bytes(tensors_[tensor]);
}

void GgufWriter::verify_rest() {
  file_.verify_begin(header_);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const int64_t end = offset(i) + planned_bytes(tensors_[i]);
    std::vector<std::byte> padding(static_cast<size_t>(round_up(end, alignment_) - end));
    file_.read(end, padding);
    if (std::ranges::all_of(padding, [](std::byte byte) { return byte == std::byte{0}; })) continue;
    throw Error(
        fmt::format("{}: the padding behind {} reads back as something else than was written, so "
                    "nothing is kept; is the disk sound?",
                    file_.path().string(), quote_name(tensors_[i].name)));
  }
}

void GgufWriter::resume(size_t tensors) {
  const auto header = std::as_bytes(std::span(header_));
  if (tensors == 0) {
    file_.truncate(0);
    file_.append(header);
  } else {  // its last string may have been replaced
    check(holds(tensors));
    file_.truncate(offset(tensors));
    file_.overwrite(0, header);
  }
  current_ = tensors;
  left_in_current_ = tensors < tensors_.size() ? planned_bytes(tensors_[tensors]) : 0;
  finish_tensors();
}

void GgufWriter::append(std::span<const std::byte> bytes) {
  check(static_cast<int64_t>(bytes.size()) <= left_in_current_);
  file_.append(bytes);
  left_in_current_ -= static_cast<int64_t>(bytes.size());
  finish_tensors();
}

void GgufWriter::replace_last_string(std::string_view value) {
  check(std::ssize(value) == last_string_);
  const int64_t begin = metadata_end_ - last_string_;
  header_.replace(static_cast<size_t>(begin), value.size(), value);
  file_.overwrite(begin, std::as_bytes(std::span(value)));
}

void GgufWriter::commit() {
  check(current_ == tensors_.size());
  file_.commit();
}

/// Pads behind a tensor that is complete, and goes on to the next that has bytes.
void GgufWriter::finish_tensors() {
  while (left_in_current_ == 0 && current_ < tensors_.size()) {
    int64_t padding = round_up(file_.size(), alignment_) - file_.size();
    while (padding > 0) {
      const int64_t part = std::min(padding, static_cast<int64_t>(kZeros.size()));
      file_.append(std::span(kZeros).first(static_cast<size_t>(part)));
      padding -= part;
    }
    ++current_;
    if (current_ < tensors_.size()) left_in_current_ = planned_bytes(tensors_[current_]);
  }
}

}  // namespace fewbits
