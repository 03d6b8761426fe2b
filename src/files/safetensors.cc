#include "files/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

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

  TensorView tensor_view(const std::string& name, const Json& info) const {
    const std::string place = fmt::format("{}: tensor {}", where_, quote_name(name));
    if (is_counter(name, info)) {
      const auto [begin, end] = offsets_of(info, place);
      return {
          nullptr, {}, data_.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))};
    }
    TensorView view{
        &format_of(json_string(info, "dtype", place), place), shape_of(info, place), {}};
    const auto [begin, end] = offsets_of(info, place);
    const auto bytes = tensor_bytes(*view.format, view.shape);
    if (!bytes || *bytes != end - begin) {
      throw Error(fmt::format("{}: its shape [{}] in {} contradicts its {} bytes", place,
                              fmt::join(view.shape, ", "), view.format->name, end - begin));
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
};

}  // namespace

ParsedFile parse_safetensors(std::span<const std::byte> bytes, std::string_view where) {
  return Parser(bytes, where).parse();
}

}  // namespace fewbits
