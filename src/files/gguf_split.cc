#include "files/gguf_split.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "files/errors.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr const char* kNumber = "split.no";
constexpr const char* kCount = "split.count";
constexpr const char* kTensors = "split.tensors.count";
constexpr int64_t kMostFiles = 65535;  // split.count is a uint16
constexpr std::string_view kExtension = ".gguf";

/// NAME.gguf of NAME-00002-of-00003.gguf. Throws Error where it is not called so.
fs::path whole_name(const fs::path& path, int64_t count) {
  std::string name = path.filename().string();
  const std::string end = fmt::format("-of-{:05}{}", count, kExtension);
  constexpr size_t kDigits = 6;  // and their hyphen
  if (!name.ends_with(end) || name.size() <= end.size() + kDigits) {
    throw Error(fmt::format(
        "{}: one of {} files of a split GGUF, which must be called NAME-00001-of-{:05}.gguf and so "
        "on, as they were",
        path.string(), count, count));
  }
  name.resize(name.size() - end.size() - kDigits);
  return path.parent_path() / (name + std::string(kExtension));
}

void check_part(const Metadata& metadata, int64_t index, int64_t count, const fs::path& path) {
  with_place(path.string(), [&] {
    const int64_t number = metadata.integer(kNumber).value_or(-1);
    const int64_t files = metadata.integer(kCount).value_or(1);
    if (number == index && files == count) return;
    throw Error(fmt::format("says that it is file {} of {}, but its name says {} of {}", number + 1,
                            files, index + 1, count));
  });
}

void erase_split_keys(Metadata& metadata) {
  for (const char* key : {kNumber, kCount, kTensors}) metadata.erase(key);
}

/// The last entry stays the last where it is a string: that may be replaced later.
Metadata part_metadata(const Metadata& whole, int64_t index, int64_t count, int64_t tensors) {
  Metadata metadata;
  Metadata::Entry last;
  if (index == 0) {
    metadata = whole;
    if (!whole.entries().empty() && whole.entries().back().value.type == ValueType::kString) {
      last = whole.entries().back();
      metadata.erase(last.key);
    }
  } else if (const MetadataValue* alignment = whole.find("general.alignment")) {
    metadata.set("general.alignment", *alignment);
  }
  metadata.set(kNumber, {ValueType::kUint16, index});
  metadata.set(kCount, {ValueType::kUint16, count});
  metadata.set(kTensors, {ValueType::kInt32, tensors});
  if (!last.key.empty()) metadata.set(last.key, last.value);
  return metadata;
}

/// Where each file's tensors end.
std::vector<size_t> ends_of_parts(const Metadata& metadata,
                                  const std::vector<PlannedTensor>& tensors, int64_t file_bytes) {
  if (file_bytes == 0) return {tensors.size()};
  std::vector<size_t> ends;
  size_t begin = 0;
  // The first file has the metadata, which is not split.
  int64_t bytes = gguf_file_bytes(metadata, {});
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t more = tensor_bytes(*tensors[i].format, tensors[i].shape).value_or(INT64_MAX / 2);
    if (i > begin && bytes + more > file_bytes) {
      ends.push_back(begin = i);
      bytes = 0;
    }
    bytes += more;
  }
  ends.push_back(tensors.size());
  return ends;
}

}  // namespace

OpenGguf open_gguf_file(const fs::path& path) {
  OpenGguf open{std::make_unique<MappedFile>(MappedFile::open(path)), {}};
  open.parsed = parse_gguf(open.file->bytes(), path.string());
  for (StoredTensor& tensor : open.parsed.tensors) tensor.file = open.file.get();
  return open;
}

int64_t split_count(const Metadata& metadata, std::string_view where) {
  const int64_t count = with_place(where, [&] { return metadata.integer(kCount).value_or(1); });
  if (count >= 0 && count <= kMostFiles) return std::max<int64_t>(count, 1);
  throw Error(
      fmt::format("{}: {} is {}, but must be from 0 to {}", where, kCount, count, kMostFiles));
}

fs::path split_name(const fs::path& whole, int64_t index, int64_t count) {
  return whole.parent_path() /
         fmt::format("{}-{:05}-of-{:05}{}", whole.stem().string(), index + 1, count, kExtension);
}

TensorStore open_split_gguf(const fs::path& path, int64_t count) {
  const fs::path whole = whole_name(path, count);
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<StoredTensor> tensors;
  Metadata metadata;
  for (int64_t i = 0; i < count; ++i) {
    const fs::path name = split_name(whole, i, count);
    OpenGguf open = open_gguf_file(name);
    check_part(open.parsed.metadata, i, count, name);
    if (i == 0) metadata = std::move(open.parsed.metadata);
    std::move(open.parsed.tensors.begin(), open.parsed.tensors.end(), std::back_inserter(tensors));
    files.push_back(std::move(open.file));
  }
  const std::string where = split_name(whole, 0, count).string();
  return with_place(where, [&] {
    const int64_t wanted = metadata.integer(kTensors).value_or(std::ssize(tensors));
    if (wanted != std::ssize(tensors)) {
      throw Error(fmt::format("says that its {} files have {} tensors, but they have {}", count,
                              wanted, tensors.size()));
    }
    erase_split_keys(metadata);
    return TensorStore(std::move(files), std::move(tensors), std::move(metadata));
  });
}

SplitGgufWriter::SplitGgufWriter(const fs::path& whole, const Metadata& metadata,
                                 const std::vector<PlannedTensor>& tensors,
                                 const SplitOptions& options)
    : whole_(whole) {
  const std::vector<size_t> ends = ends_of_parts(metadata, tensors, options.file_bytes);
  const int64_t count = std::ssize(ends);
  if (count > kMostFiles) {
    throw Error(fmt::format("{}: {} files of {} bytes; at most {} are possible", whole.string(),
                            count, options.file_bytes, kMostFiles));
  }
  size_t begin = 0;
  for (int64_t i = 0; i < count; ++i) {
    const size_t end = ends[static_cast<size_t>(i)];
    const std::vector<PlannedTensor> inside(tensors.begin() + static_cast<int64_t>(begin),
                                            tensors.begin() + static_cast<int64_t>(end));
    const bool is_whole = options.file_bytes == 0;
    parts_.push_back(
        {begin, end,
         std::make_unique<GgufWriter>(
             is_whole ? whole : split_name(whole, i, count),
             is_whole ? metadata : part_metadata(metadata, i, count, std::ssize(tensors)), inside,
             options.lifetime)});
    begin = end;
  }
}

const SplitGgufWriter::Part& SplitGgufWriter::part_of(size_t tensor) const {
  const auto part = std::ranges::upper_bound(parts_, tensor, {}, &Part::end);
  check(part != parts_.end());
  return *part;
}

int64_t SplitGgufWriter::file_bytes() const {
  int64_t bytes = 0;
  for (const Part& part : parts_) bytes += part.writer->file_bytes();
  return bytes;
}

int64_t SplitGgufWriter::bytes(size_t tensor) const {
  const Part& part = part_of(tensor);
  return part.writer->bytes(tensor - part.begin);
}

void SplitGgufWriter::read(size_t tensor, int64_t offset, std::span<std::byte> out) const {
  const Part& part = part_of(tensor);
  part.writer->read(part.writer->offset(tensor - part.begin) + offset, out);
}

bool SplitGgufWriter::holds(size_t tensors) const {
  return std::ranges::all_of(parts_, [&](const Part& part) {
    const size_t inside = part.inside(tensors);
    return inside == 0 || part.writer->holds(inside);
  });
}

void SplitGgufWriter::resume(size_t tensors) {
  for (const Part& part : parts_) part.writer->resume(part.inside(tensors));
}

void SplitGgufWriter::append(size_t tensor, std::span<const std::byte> bytes) {
  part_of(tensor).writer->append(bytes);
}

void SplitGgufWriter::sync() {
  for (const Part& part : parts_) part.writer->sync();
}

void SplitGgufWriter::keep() {
  for (const Part& part : parts_) part.writer->keep();
}

void SplitGgufWriter::replace_last_string(std::string_view value) {
  parts_.front().writer->replace_last_string(value);
}

void SplitGgufWriter::verify_rest() {
  for (const Part& part : parts_) part.writer->verify_rest();
}

void SplitGgufWriter::commit() {
  for (auto part = parts_.rbegin(); part != parts_.rend(); ++part) part->writer->commit();
}

/// One file is opened as it is; several must be called as they say they are.
SplitGgufWriter::Readable::Readable(const SplitGgufWriter& writer)
    : path_(writer.parts_.front().writer->temporary()) {
  if (writer.files() == 1) return;
  folder_ = beside_output(writer.whole_, "parts");  // known to left_beside
  std::error_code error;
  fs::remove_all(folder_, error);  // of a run that was killed
  fs::create_directory(folder_, error);
  for (int64_t i = 0; i < writer.files() && !error; ++i) {
    const fs::path part = writer.parts_[static_cast<size_t>(i)].writer->temporary();
    const fs::path name = split_name(writer.whole_.filename(), i, writer.files());
    fs::create_symlink(fs::absolute(part), folder_ / name, error);
  }
  if (error) throw DiskError(fmt::format("{}: {}", folder_.string(), error.message()));
  path_ = folder_ / split_name(writer.whole_.filename(), 0, writer.files());
}

SplitGgufWriter::Readable::~Readable() {
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

}  // namespace fewbits
