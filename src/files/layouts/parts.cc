#include "files/layouts/parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/half.h"
#include "base/text.h"
#include "files/errors.h"
#include "formats/small_floats.h"

namespace fewbits {
namespace {

template <class Value>
Value load(const uint8_t* bytes, int64_t index) {
  Value value;
  std::memcpy(&value, bytes + index * static_cast<int64_t>(sizeof value), sizeof value);
  return value;
}

float read_f32(const uint8_t* bytes, int64_t index) {
  return load<float>(bytes, index);
}
float read_f16(const uint8_t* bytes, int64_t index) {
  return half_to_float(load<uint16_t>(bytes, index));
}
float read_bf16(const uint8_t* bytes, int64_t index) {
  return std::bit_cast<float>(uint32_t{load<uint16_t>(bytes, index)} << 16);
}
float read_e4m3(const uint8_t* bytes, int64_t index) {
  return small_floats::E4M3::kLevels[bytes[index]];
}
float read_e8m0(const uint8_t* bytes, int64_t index) {
  constexpr int kBias = 127, kNan = 255;
  return bytes[index] == kNan ? NAN : std::ldexp(1.0f, bytes[index] - kBias);
}

constexpr int kMostBits = 8;
constexpr auto kIntegers = [] {
  std::array<float, 256> all{};
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(static_cast<int>(i) - 128);
  return all;
}();
constexpr auto kWholeNumbers = [] {
  std::array<float, 256> all{};
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<float>(i);
  return all;
}();

}  // namespace

Parts::Parts(const TensorStore& store, const Json& config, std::string_view where)
    : config_(config), where_(where) {
  for (const StoredTensor& tensor : store.tensors()) {
    parts_[tensor.name] = {tensor.name,
                           std::string(tensor.view.format->name),
                           tensor.view.shape,
                           {tensor.view.bytes, tensor.file}};
  }
  for (const OtherTensor& other : store.others()) {
    const auto [place, fresh] =
        parts_.emplace(other.name, Part{other.name, other.dtype, other.shape, other.part});
    if (!fresh) fail(place->second, "is there twice");
  }
}

void Parts::fail(const Part& part, const std::string& what) const {
  throw Error(fmt::format("{}: tensor {}: {}", where_, quote_name(part.name), what));
}

const Part* Parts::find(const std::string& name) {
  const auto found = parts_.find(name);
  if (found == parts_.end()) return nullptr;
  used_.insert(name);
  return &found->second;
}

const Part& Parts::need(const std::string& name, std::initializer_list<std::string_view> dtypes) {
  const Part* part = find(name);
  if (part == nullptr) {
    throw Error(fmt::format("{}: tensor {} is missing", where_, quote_name(name)));
  }
  if (std::ranges::find(dtypes, part->dtype) == dtypes.end()) {
    fail(*part, fmt::format("is in {}, but must be in {}", part->dtype, fmt::join(dtypes, " or ")));
  }
  if (part->shape.size() > 2) fail(*part, "must be a matrix");
  return *part;
}

void Parts::demand_shape(const Part& part, const Shape& shape) const {
  if (part.shape == shape) return;
  fail(part, fmt::format("has the shape [{}], the others of its layer ask for [{}]",
                         fmt::join(part.shape, ", "), fmt::join(shape, ", ")));
}

FloatReader float_reader(const Parts& parts, const Part& part) {
  constexpr std::pair<std::string_view, FloatReader> kReaders[] = {{"F32", read_f32},
                                                                   {"F16", read_f16},
                                                                   {"BF16", read_bf16},
                                                                   {"F8_E4M3", read_e4m3},
                                                                   {"F8_E8M0", read_e8m0}};
  for (const auto& [dtype, reader] : kReaders) {
    if (dtype == part.dtype) return reader;
  }
  parts.fail(part, fmt::format("is in {}, but must be in floats", part.dtype));
}

std::span<const float> signed_levels(int bits) {
  check(bits > 0 && bits <= kMostBits);
  const size_t count = size_t{1} << bits;
  return std::span(kIntegers).subspan((kIntegers.size() - count) / 2, count);
}

std::span<const float> unsigned_levels(int bits) {
  check(bits > 0 && bits <= kMostBits);
  return std::span(kWholeNumbers).first(size_t{1} << bits);
}

int64_t group_size(int64_t columns, int64_t groups, std::span<const int64_t> wanted) {
  if (groups == 1) return columns;
  for (const int64_t size : wanted) {
    if (size > 0 && (columns - 1) / size + 1 == groups) return size;
  }
  return groups > 0 && columns % groups == 0 ? columns / groups : 0;
}

std::vector<int32_t> column_groups(const Parts& parts, const Part& indices,
                                   const CodedMatrix& matrix) {
  if (indices.dtype != "I32") parts.fail(indices, "must be in I32");
  parts.demand_shape(indices, {matrix.columns});
  std::vector<int32_t> groups(static_cast<size_t>(matrix.columns));
  std::memcpy(groups.data(), indices.bytes(), groups.size() * sizeof(int32_t));
  if (std::ranges::all_of(groups, [](int32_t group) { return group == -1; })) return {};
  bool consecutive = true;
  for (size_t i = 0; i < groups.size(); ++i) {
    if (groups[i] < 0 || groups[i] >= matrix.groups()) {
      parts.fail(indices, fmt::format("column {} is in group {}, but there are {}", i, groups[i],
                                      matrix.groups()));
    }
    consecutive = consecutive && groups[i] == static_cast<int64_t>(i) / matrix.group_values;
  }
  return consecutive ? std::vector<int32_t>() : groups;
}

}  // namespace fewbits
