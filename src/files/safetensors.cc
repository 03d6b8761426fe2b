#include "files/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/json.h"
#include "files/errors.h"

namespace fewbits {
namespace {

static_assert(std::endian::native == std::endian::little, "headers and weights are read in place");

// The reference implementation's own limit. A header takes some hundred bytes for each tensor.
constexpr uint64_t kMostHeaderBytes = 100'000'000;

constexpr std::string_view kMetadata = "__metadata__";
constexpr std::string_view kKnown = "F32, F16, BF16";

/// What codes, zero points, shapes and scales of quantized folders are in.
struct OtherType {
  std::string_view dtype;
  int64_t bytes;
};
constexpr OtherType kOthers[] = {{"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E8M0", 1}, {"I16", 2},
                                 {"I32", 4},  {"I64", 8},     {"I8", 1},      {"U8", 1}};

class Parser {
 public:
  Parser(std::span<const std::byte> bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  ParsedFile parse() {
    const Json header = parse_json(header_text(), where_);
    if (!header.is_object()) fail("the header is no JSON object");
    ParsedFile file;
    for (const auto& [name, info] : header.items()) {
      if (name == kMetadata) {
        check_metadata(info);
      } else {
        file.tensors.push_back({name, tensor_view(name, info)});
      }
    }
    sort_by_place(file.tensors);
    refuse_holes_and_overlaps(file.tensors);
    for (const StoredTensor& tensor : file.tensors) {
      const auto dtype = dtype_of_other_.find(tensor.name);
      if (dtype == dtype_of_other_.end()) continue;
      file.others.push_back(
          {tensor.name, dtype->second, tensor.view.shape, {tensor.view.bytes, nullptr}});
    }
    std::erase_if(file.tensors,
                  [](const StoredTensor& tensor) { return tensor.view.format == nullptr; });
    return file;
  }

 private:
  template <class... Parts>
  [[noreturn]] void fail(fmt::format_string<Parts...> text, Parts&&... parts) const {
    throw Error(fmt::format("{}: {}", where_, fmt::format(text, std::forward<Parts>(parts)...)));
  }

  /// The JSON; also cuts `bytes_` into header and data.
  std::string_view header_text() {
    if (bytes_.size() < sizeof(uint64_t))
      fail("not a safetensors file: only {} bytes", bytes_.size());
    uint64_t length;
    std::memcpy(&length, bytes_.data(), sizeof(length));
    const auto rest = bytes_.subspan(sizeof(length));
    if (length > kMostHeaderBytes) {
      fail("not a safetensors file: its header would have {} bytes, the limit is {}", length,
           kMostHeaderBytes);
    }
    if (length > rest.size()) {
      fail("the header has {} bytes, but the file ends after {}; is it truncated?", length,
           rest.size());
    }
    data_ = rest.subspan(static_cast<size_t>(length));
    return {reinterpret_cast<const char*>(rest.data()), static_cast<size_t>(length)};
  }

  void check_metadata(const Json& metadata) const {
    const bool strings =
        metadata.is_object() && std::all_of(metadata.begin(), metadata.end(),
                                            [](const Json& value) { return value.is_string(); });
    if (!strings) fail("{} must map strings to strings", kMetadata);
  }

  TensorView tensor_view(const std::string& name, const Json& info) {
    const std::string place = fmt::format("{}: tensor {}", where_, quote_name(name));
    if (is_counter(name, info)) {
      const auto [begin, end] = offsets_of(info, place);
      return {
          nullptr, {}, data_.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))};
    }
    const std::string dtype = json_string(info, "dtype", place);
    const int64_t size = bytes_of_other(dtype);
    TensorView view{size == 0 ? &format_of(dtype, place) : nullptr, shape_of(info, place), {}};
    if (size != 0) dtype_of_other_.emplace(name, dtype);
    const auto [begin, end] = offsets_of(info, place);
    const auto bytes =
        size == 0 ? tensor_bytes(*view.format, view.shape) : bytes_of(view.shape, size);
    if (!bytes || *bytes != end - begin) {
      throw Error(fmt::format("{}: its shape [{}] in {} contradicts its {} bytes", place,
                              fmt::join(view.shape, ", "), dtype, end - begin));
    }
    view.bytes = data_.subspan(static_cast<size_t>(begin), static_cast<size_t>(*bytes));
    return view;
  }

  /// The numbers 0, 1, 2, .., which old encoder checkpoints carry: integers, and of no use.
  static bool is_counter(const std::string& name, const Json& info) {
    const auto dtype = info.is_object() ? info.find("dtype") : info.end();
    return name.ends_with("position_ids") && dtype != info.end() && *dtype == "I64";
  }

  static const Format& format_of(const std::string& dtype, const std::string& place) {
    if (dtype == "F32" || dtype == "F16" || dtype == "BF16") return format_named(dtype);
    throw Error(
        fmt::format("{}: dtype {} cannot be read; known: {}", place, quote_name(dtype), kKnown));
  }

  /// Of one value; 0: not one of the types that only parts of weights have.
  static int64_t bytes_of_other(std::string_view dtype) {
    const auto* found = std::ranges::find(kOthers, dtype, &OtherType::dtype);
    return found == std::end(kOthers) ? 0 : found->bytes;
  }

  static std::optional<int64_t> bytes_of(const Shape& shape, int64_t size) {
    std::optional<int64_t> bytes = size;
    for (size_t i = 0; bytes && i < shape.size(); ++i) bytes = checked_multiply(*bytes, shape[i]);
    return bytes;
  }

  static Shape shape_of(const Json& info, const std::string& place) {
    const Json& shape = list_of(info, "shape", place);
    Shape sizes;
    for (const Json& size : shape) {
      if (!size.is_number_unsigned() || size.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
        throw Error(fmt::format("{}: a size in its shape is no whole number below 2^63", place));
      }
      sizes.push_back(size.get<int64_t>());
    }
    return sizes;
  }

  std::pair<int64_t, int64_t> offsets_of(const Json& info, const std::string& place) const {
    const Json& offsets = list_of(info, "data_offsets", place);
    const bool numbers =
        offsets.size() == 2 && offsets[0].is_number_unsigned() && offsets[1].is_number_unsigned();
    if (!numbers) throw Error(place + ": data_offsets must be two whole numbers");
    const auto begin = offsets[0].get<uint64_t>();
    const auto end = offsets[1].get<uint64_t>();
    if (begin > end || end > data_.size()) {
      throw Error(
          fmt::format("{}: its bytes {} to {} lie outside the {} bytes of data; is the file "
                      "truncated?",
                      place, begin, end, data_.size()));
    }
    return {static_cast<int64_t>(begin), static_cast<int64_t>(end)};
  }

  static const Json& list_of(const Json& info, const char* key, const std::string& place) {
    const auto found = info.is_object() ? info.find(key) : info.end();
    if (found == info.end() || !found->is_array()) {
      throw Error(fmt::format("{}: '{}' must be a list of numbers", place, key));
    }
    return *found;
  }

  /// Tensors without bytes come before the one that begins where they lie.
  static void sort_by_place(std::vector<StoredTensor>& tensors) {
    std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
      const auto* a_begin = a.view.bytes.data();
      const auto* b_begin = b.view.bytes.data();
      return a_begin != b_begin ? a_begin < b_begin : a.view.bytes.size() < b.view.bytes.size();
    });
  }

  void refuse_holes_and_overlaps(const std::vector<StoredTensor>& tensors) const {
    const std::byte* end = data_.data();
    for (const StoredTensor& tensor : tensors) {
      const std::byte* begin = tensor.view.bytes.data();
      if (begin < end) fail("tensor {} overlaps the one before it", quote_name(tensor.name));
      if (begin > end)
        fail("{} bytes before tensor {} belong to none", begin - end, quote_name(tensor.name));
      end = begin + tensor.view.bytes.size();
    }
    if (const auto left = data_.data() + data_.size() - end; left > 0) {
      fail("the last {} bytes belong to no tensor", left);
    }
  }

  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
  std::string_view where_;
  std::unordered_map<std::string, std::string> dtype_of_other_;
};

}  // namespace

ParsedFile parse_safetensors(std::span<const std::byte> bytes, std::string_view where) {
  return Parser(bytes, where).parse();
}

}  // namespace fewbits
