#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <unordered_set>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/text.h"
#include "base/text_view.h"
#include "files/byte_reader.h"
#include "files/errors.h"
#include "files/ggml_types.h"
#include "files/gguf.h"
#include "files/gguf_split.h"

namespace fewbits {
namespace {

static_assert(std::endian::native == std::endian::little, "headers and weights are read in place");

constexpr uint32_t kOldestVersion = 2;  // version 1 had 32-bit counts and lived for weeks
constexpr uint32_t kNewestVersion = 3;
constexpr uint32_t kMaxDimensions = 4;

// The least bytes an entry (empty key, type, one byte) and a tensor (empty name, no sizes) take:
// counts beyond what the file can hold are refused before anything is reserved for them.
constexpr int64_t kLeastEntryBytes = 8 + 4 + 1;
constexpr int64_t kLeastTensorBytes = 8 + 4 + 4 + 8;

struct EndOfHeader {
  std::string_view where;
  [[noreturn]] void operator()(uint64_t) const {
    throw Error(
        fmt::format("{}: the header goes on beyond the end of the file; is it truncated?", where));
  }
};

/// A tensor's info as the file has it; its bytes are found when all infos are known.
struct TensorInfo {
  std::string name;
  const Format* format;
  Shape shape;
  int64_t offset;
  int64_t bytes;
};

std::string known_formats() {
  std::vector<std::string> names;
  for (const Format* format : formats()) {
    if (format->gguf_type >= 0) names.emplace_back(format->name);
  }
  return join(names);
}

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view where)
      : bytes_(bytes), where_(where), reader_(bytes, EndOfHeader{where}) {}

  ParsedFile parse() {
    read_magic_and_version();
    const auto tensor_count = reader_.read<uint64_t>();
    const auto entry_count = reader_.read<uint64_t>();
    ParsedFile file;
    file.metadata = read_metadata(checked_count(entry_count, kLeastEntryBytes, "metadata entries"));
    const int64_t alignment = alignment_of(file.metadata);
    const auto infos =
        read_infos(checked_count(tensor_count, kLeastTensorBytes, "tensors"), alignment);
    file.tensors = place_tensors(infos, round_up(reader_.position(), alignment));
    return file;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(fmt::format_string<Parts...> text, Parts&&... parts) const {
    throw Error(fmt::format("{}: {}", where_, fmt::format(text, std::forward<Parts>(parts)...)));
  }

  void read_magic_and_version() {
    if (bytes_.size() < 8 || std::memcmp(bytes_.data(), "GGUF", 4) != 0) {
      fail("not a GGUF file (it does not begin with 'GGUF')");
    }
    reader_.take(4);
    const auto version = reader_.read<uint32_t>();
    if (version >= kOldestVersion && version <= kNewestVersion) return;
    if (const uint32_t swapped = __builtin_bswap32(version); swapped <= kNewestVersion) {
      fail(
          "a big-endian GGUF (version {}); only little-endian files can be read: convert it with "
          "gguf_convert_endian.py of llama.cpp",
          swapped);
    }
    fail(
        "GGUF version {}, but only {} to {} can be read; convert the model again with a current "
        "llama.cpp",
        version, kOldestVersion, kNewestVersion);
  }

  size_t checked_count(uint64_t count, int64_t least_bytes, std::string_view what) const {
    if (count > static_cast<uint64_t>(reader_.left() / least_bytes)) {
      fail("claims {} {}, more than the file can hold; it is damaged or truncated", count, what);
    }
    return static_cast<size_t>(count);
  }

  std::string_view read_string() { return text_view(reader_.take(reader_.read<uint64_t>())); }

  Metadata read_metadata(size_t count) {
    std::vector<Metadata::Entry> entries;
    entries.reserve(count);
    std::unordered_set<std::string_view> keys;
    for (size_t i = 0; i < count; ++i) {
      const std::string_view key = read_string();
      if (!keys.insert(key).second) fail("metadata key {} is there twice", quote_name(key));
      entries.push_back({std::string(key), read_value(key)});
    }
    return Metadata(std::move(entries));
  }

  MetadataValue read_value(std::string_view key) {
    const ValueType type = read_type(key);
    switch (type) {
      case ValueType::kString:
        return {type, std::string(read_string())};
      case ValueType::kArray:
        return {type, read_array(key)};
      case ValueType::kFloat32:
      case ValueType::kFloat64:
        return {type, read_float(type)};
      default:
        return {type, read_integer(type, key)};
    }
  }

  ValueType read_type(std::string_view key) {
    const auto type = reader_.read<uint32_t>();
    if (type > static_cast<uint32_t>(ValueType::kFloat64)) {
      fail("metadata {} has the unknown type {}", quote_name(key), type);
    }
    return static_cast<ValueType>(type);
  }

  int64_t read_integer(ValueType type, std::string_view key) {
    switch (type) {
      case ValueType::kUint8:
        return reader_.read<uint8_t>();
      case ValueType::kInt8:
        return reader_.read<int8_t>();
      case ValueType::kUint16:
        return reader_.read<uint16_t>();
      case ValueType::kInt16:
        return reader_.read<int16_t>();
      case ValueType::kUint32:
        return reader_.read<uint32_t>();
      case ValueType::kInt32:
        return reader_.read<int32_t>();
      case ValueType::kUint64:
        return read_uint64(key);
      case ValueType::kInt64:
        return reader_.read<int64_t>();
      default:
        return read_bool(key);
    }
  }

  int64_t read_uint64(std::string_view key) {
    const auto value = reader_.read<uint64_t>();
    if (value > static_cast<uint64_t>(INT64_MAX)) {
      fail("metadata {} is {}, above the limit of 2^63 - 1", quote_name(key), value);
    }
    return static_cast<int64_t>(value);
  }

  int64_t read_bool(std::string_view key) {
    const auto value = reader_.read<uint8_t>();
    if (value > 1)
      fail("metadata {} is a bool of value {}; 0 or 1 expected", quote_name(key), value);
    return value;
  }

  double read_float(ValueType type) {
    return type == ValueType::kFloat32 ? double{reader_.read<float>()} : reader_.read<double>();
  }

  MetadataArray read_array(std::string_view key) {
    MetadataArray array;
    array.element = read_type(key);
    const auto wanted = reader_.read<uint64_t>();
    const auto count = checked_count(wanted, least_bytes(array.element), "array elements");
    switch (array.element) {
      case ValueType::kArray:
        fail("metadata {} is an array of arrays, which no model needs", quote_name(key));
      case ValueType::kString:
        array.values = read_all<std::string>(count, [&] { return std::string(read_string()); });
        break;
      case ValueType::kFloat32:
      case ValueType::kFloat64:
        array.values = read_all<double>(count, [&] { return read_float(array.element); });
        break;
      default:
        array.values = read_all<int64_t>(count, [&] { return read_integer(array.element, key); });
    }
    return array;
  }

  static int64_t least_bytes(ValueType type) {
    switch (type) {
      case ValueType::kUint8:
      case ValueType::kInt8:
      case ValueType::kBool:
        return 1;
      case ValueType::kUint16:
      case ValueType::kInt16:
        return 2;
      case ValueType::kUint32:
      case ValueType::kInt32:
      case ValueType::kFloat32:
        return 4;
      default:
        return 8;  // a string's or an inner array's length too
    }
  }

  template <class Element, class Read>
  static std::vector<Element> read_all(size_t count, Read read) {
    std::vector<Element> elements;
    elements.reserve(count);
    for (size_t i = 0; i < count; ++i) elements.push_back(read());
    return elements;
  }

  int64_t alignment_of(const Metadata& metadata) const {
    return with_place(where_, [&] { return gguf_alignment(metadata); });
  }

  std::vector<TensorInfo> read_infos(size_t count, int64_t alignment) {
    std::vector<TensorInfo> infos;
    infos.reserve(count);
    std::unordered_set<std::string_view> names;
    for (size_t i = 0; i < count; ++i) {
      const std::string_view name = read_string();
      if (!names.insert(name).second) fail("tensor {} is there twice", quote_name(name));
      infos.push_back(read_info(name));
      if (infos.back().offset % alignment != 0) {
        fail("tensor {} lies at offset {}, which is no multiple of the alignment {}",
             quote_name(name), infos.back().offset, alignment);
      }
    }
    return infos;
  }

  TensorInfo read_info(std::string_view name) {
    Shape shape = read_shape(name);
    const Format& format = read_format(name);
    const int64_t columns = shape.empty() ? 1 : shape.back();
    if (columns % format.block_values != 0) {
      fail("tensor {} has rows of {} values, which are no whole blocks of {} ({} values)",
           quote_name(name), columns, format.name, format.block_values);
    }
    const auto bytes = tensor_bytes(format, shape);
    if (!bytes) {
      fail("tensor {} has more bytes than any file: {} values", quote_name(name),
           fmt::join(shape, " x "));
    }
    const auto offset = reader_.read<uint64_t>();
    if (offset > static_cast<uint64_t>(INT64_MAX)) {
      fail("tensor {} lies at offset {}, outside any file", quote_name(name), offset);
    }
    return {std::string(name), &format, std::move(shape), static_cast<int64_t>(offset), *bytes};
  }

  Shape read_shape(std::string_view name) {
    const auto dimensions = reader_.read<uint32_t>();
    if (dimensions > kMaxDimensions) {
      fail("tensor {} has {} dimensions; at most {} are possible", quote_name(name), dimensions,
           kMaxDimensions);
    }
    Shape shape(dimensions);
    for (auto size = shape.rbegin(); size != shape.rend(); ++size) {
      *size = reader_.read<int64_t>();
      if (*size < 0) fail("tensor {} has a size above 2^63 - 1", quote_name(name));
    }
    return shape;
  }

  const Format& read_format(std::string_view name) {
    const auto type = reader_.read<uint32_t>();
    if (const Format* format = find_format_by_gguf_type(type)) return *format;
    fail("tensor {} is stored as {}, which cannot be read; known: {}", quote_name(name),
         ggml_type_name(type), known_formats());
  }

  /// `data` is where the tensors' bytes begin: beyond the end of a file that has none of them.
  std::vector<StoredTensor> place_tensors(const std::vector<TensorInfo>& infos,
                                          int64_t data) const {
    std::vector<StoredTensor> tensors;
    tensors.reserve(infos.size());
    for (const TensorInfo& info : infos) {
      const auto begin = checked_add(data, info.offset);
      const auto end = begin ? checked_add(*begin, info.bytes) : std::nullopt;
      if (!end || *end > static_cast<int64_t>(bytes_.size())) {
        fail(
            "tensor {} of {} bytes at offset {} ends beyond the end of the file ({} bytes); is it "
            "truncated?",
            quote_name(info.name), info.bytes, info.offset, bytes_.size());
      }
      const auto part =
          bytes_.subspan(static_cast<size_t>(*begin), static_cast<size_t>(info.bytes));
      tensors.push_back({info.name, {info.format, info.shape, part}});
    }
    refuse_overlaps(infos);
    return tensors;
  }

  void refuse_overlaps(const std::vector<TensorInfo>& infos) const {
    std::vector<const TensorInfo*> sorted;
    for (const TensorInfo& info : infos) {
      if (info.bytes > 0) sorted.push_back(&info);
    }
    std::sort(sorted.begin(), sorted.end(),
              [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
    for (size_t i = 1; i < sorted.size(); ++i) {
      if (sorted[i - 1]->offset + sorted[i - 1]->bytes > sorted[i]->offset) {
        fail("tensors {} and {} overlap", quote_name(sorted[i - 1]->name),
             quote_name(sorted[i]->name));
      }
    }
  }

  std::span<const std::byte> bytes_;
  std::string_view where_;
  ByteReader<EndOfHeader> reader_;
};

}  // namespace

ParsedFile parse_gguf(std::span<const std::byte> bytes, std::string_view where) {
  return Parser(bytes, where).parse();
}

TensorStore open_gguf(const std::filesystem::path& path) {
  OpenGguf open = open_gguf_file(path);
  const int64_t count = split_count(open.parsed.metadata, path.string());
  if (count > 1) return open_split_gguf(path, count);
  std::vector<std::unique_ptr<MappedFile>> files;
  files.push_back(std::move(open.file));
  return TensorStore(std::move(files), std::move(open.parsed.tensors),
                     std::move(open.parsed.metadata));
}

int64_t gguf_alignment(const Metadata& metadata) {
  constexpr int64_t kDefault = 32;
  constexpr int64_t kLeast = 8;                    // the specification's
  constexpr int64_t kGreatest = int64_t{1} << 30;  // keeps sums of positions far from overflow
  const MetadataValue* value = metadata.find("general.alignment");
  if (value == nullptr) return kDefault;
  const int64_t alignment = metadata.integer("general.alignment").value();
  const bool power_of_two = std::has_single_bit(static_cast<uint64_t>(alignment));
  if (value->type != ValueType::kUint32 || !power_of_two || alignment < kLeast ||
      alignment > kGreatest) {
    throw Error(
        fmt::format("general.alignment is {} of type {}; a power of two from {} to {} of type "
                    "uint32 is expected",
                    alignment, value_type_name(value->type), kLeast, kGreatest));
  }
  return alignment;
}

}  // namespace fewbits
