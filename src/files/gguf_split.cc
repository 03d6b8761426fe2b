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

Metadata part_metadata(const TensorStore& store, int64_t index, int64_t count) {
  Metadata metadata;
  if (index == 0) {
    metadata = store.metadata();
  } else if (const MetadataValue* alignment = store.metadata().find("general.alignment")) {
    metadata.set("general.alignment", *alignment);
  }
  metadata.set(kNumber, {ValueType::kUint16, index});
  metadata.set(kCount, {ValueType::kUint16, count});
  metadata.set(kTensors, {ValueType::kInt32, std::ssize(store.tensors())});
  return metadata;
}

using Part = std::vector<const StoredTensor*>;

std::vector<Part> parts_of(const TensorStore& store, int64_t file_bytes) {
  std::vector<Part> parts(1);
  // The first file has the metadata, which is not split.
  int64_t bytes = gguf_file_bytes(store.metadata(), {});
  for (const StoredTensor& tensor : store.tensors()) {
    const int64_t more = std::ssize(tensor.view.bytes);
    if (!parts.back().empty() && bytes + more > file_bytes) {
      parts.emplace_back();
      bytes = 0;
    }
    parts.back().push_back(&tensor);
    bytes += more;
  }
  return parts;
}

std::unique_ptr<GgufWriter> write_part(const Part& part, const Metadata& metadata,
                                       const fs::path& path,
                                       const std::function<void(int64_t)>& on_bytes) {
  std::vector<PlannedTensor> planned;
  for (const StoredTensor* tensor : part)
    planned.push_back({tensor->name, tensor->view.format, tensor->view.shape});
  auto writer = std::make_unique<GgufWriter>(path, metadata, std::move(planned));
  for (const StoredTensor* tensor : part) {
    constexpr size_t kWindow = size_t{8} << 20;
    for (auto rest = tensor->view.bytes; !rest.empty();) {
      const auto window = rest.first(std::min(rest.size(), kWindow));
      rest = rest.subspan(window.size());
      writer->append(window);
      tensor->file->drop(window);
      on_bytes(std::ssize(window));
    }
  }
  return writer;
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

int64_t split_gguf(const fs::path& source, const fs::path& whole, int64_t file_bytes,
                   const std::function<void(int64_t)>& on_bytes) {
  const TensorStore store = open_gguf(source);
  const std::vector<Part> parts = parts_of(store, file_bytes);
  const int64_t count = std::ssize(parts);
  if (count > kMostFiles) {
    throw Error(fmt::format("{}: {} files of {} bytes; at most {} are possible", whole.string(),
                            count, file_bytes, kMostFiles));
  }
  // All are written before one gets its name: what fails leaves nothing.
  std::vector<std::unique_ptr<GgufWriter>> writers;
  for (int64_t i = 0; i < count; ++i) {
    writers.push_back(write_part(parts[static_cast<size_t>(i)], part_metadata(store, i, count),
                                 split_name(whole, i, count), on_bytes));
  }
  for (auto writer = writers.rbegin(); writer != writers.rend(); ++writer) (*writer)->commit();
  return count;
}

}  // namespace fewbits
