#include "files/metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"

namespace fewbits {
namespace {

std::string kind_of(const MetadataValue& value) {
  const auto* array = std::get_if<MetadataArray>(&value.value);
  if (array == nullptr) return std::string(value_type_name(value.type));
  return fmt::format("array of {}", value_type_name(array->element));
}

[[noreturn]] void wrong_kind(std::string_view key, const MetadataValue& value,
                             std::string_view wanted) {
  throw Error(
      fmt::format("metadata '{}' is of type {}, but must be {}", key, kind_of(value), wanted));
}

bool is_bool(const MetadataValue& value) {
  return value.type == ValueType::kBool;
}

/// The elements of an array, null where the key is missing.
template <class Element>
const std::vector<Element>* elements(const Metadata& metadata, std::string_view key,
                                     std::string_view wanted) {
  const MetadataValue* value = metadata.find(key);
  if (value == nullptr) return nullptr;
  const auto* array = std::get_if<MetadataArray>(&value->value);
  const auto* found =
      array == nullptr ? nullptr : std::get_if<std::vector<Element>>(&array->values);
  if (found == nullptr) wrong_kind(key, *value, wanted);
  return found;
}

}  // namespace

size_t MetadataArray::size() const {
  return std::visit([](const auto& elements) { return elements.size(); }, values);
}

const MetadataValue* Metadata::find(std::string_view key) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.key == key; });
  return found == entries_.end() ? nullptr : &found->value;
}

void Metadata::set(std::string_view key, MetadataValue value) {
  const auto found = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.key == key; });
  if (found != entries_.end()) {
    found->value = std::move(value);
  } else {
    entries_.push_back({std::string(key), std::move(value)});
  }
}

void Metadata::set_uint32(std::string_view key, int64_t value) {
  check(value >= 0 && value <= UINT32_MAX);
  set(key, {ValueType::kUint32, value});
}

void Metadata::set_float(std::string_view key, double value) {
  set(key, {ValueType::kFloat32, value});
}

void Metadata::set_bool(std::string_view key, bool value) {
  set(key, {ValueType::kBool, int64_t{value}});
}

void Metadata::set_string(std::string_view key, std::string value) {
  set(key, {ValueType::kString, std::move(value)});
}

void Metadata::set_strings(std::string_view key, std::vector<std::string> values) {
  set(key, {ValueType::kArray, MetadataArray{ValueType::kString, std::move(values)}});
}

void Metadata::set_floats(std::string_view key, std::vector<double> values) {
  set(key, {ValueType::kArray, MetadataArray{ValueType::kFloat32, std::move(values)}});
}

void Metadata::set_int32s(std::string_view key, std::vector<int64_t> values) {
  set(key, {ValueType::kArray, MetadataArray{ValueType::kInt32, std::move(values)}});
}

void Metadata::erase(std::string_view key) {
  std::erase_if(entries_, [&](const Entry& entry) { return entry.key == key; });
}

std::optional<int64_t> Metadata::integer(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* integer = std::get_if<int64_t>(&value->value);
  if (integer == nullptr || is_bool(*value)) wrong_kind(key, *value, "an integer");
  return *integer;
}

std::optional<double> Metadata::number(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* number = std::get_if<double>(&value->value)) return *number;
  const auto* integer = std::get_if<int64_t>(&value->value);
  if (integer == nullptr || is_bool(*value)) wrong_kind(key, *value, "a number");
  return static_cast<double>(*integer);
}

std::optional<bool> Metadata::boolean(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!is_bool(*value)) wrong_kind(key, *value, "a bool");
  return std::get<int64_t>(value->value) != 0;
}

std::optional<std::string> Metadata::string(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* text = std::get_if<std::string>(&value->value);
  if (text == nullptr) wrong_kind(key, *value, "a string");
  return *text;
}

const std::vector<std::string>* Metadata::strings(std::string_view key) const {
  return elements<std::string>(*this, key, "an array of strings");
}

const std::vector<double>* Metadata::numbers(std::string_view key) const {
  return elements<double>(*this, key, "an array of floats");
}

const std::vector<int64_t>* Metadata::integers(std::string_view key) const {
  return elements<int64_t>(*this, key, "an array of integers");
}

std::string_view value_type_name(ValueType type) {
  static constexpr std::array<std::string_view, 13> kNames = {
      "uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
      "bool",  "string", "array",  "uint64", "int64",  "float64"};
  const auto index = static_cast<size_t>(type);
  check(index < kNames.size());
  return kNames[index];
}

}  // namespace fewbits
