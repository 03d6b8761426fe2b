#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

// GGUF's key-value metadata, in file order, kept as it came so that it goes out unchanged.
namespace fewbits {

/// GGUF's own numbers.
enum class ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};

/// Integers and bools are int64_t (a uint64 above INT64_MAX is refused by the reader), floats are
/// double. Nested arrays are refused.
struct MetadataArray {
  ValueType element = ValueType::kInt32;
  std::variant<std::vector<int64_t>, std::vector<double>, std::vector<std::string>> values;

  size_t size() const;
  bool operator==(const MetadataArray&) const = default;
};

struct MetadataValue {
  ValueType type = ValueType::kString;
  std::variant<int64_t, double, std::string, MetadataArray> value;

  bool operator==(const MetadataValue&) const = default;
};

class Metadata {
 public:
  struct Entry {
    std::string key;
    MetadataValue value;

    bool operator==(const Entry&) const = default;
  };

  Metadata() = default;

  /// REQUIRES: no key twice. Takes a long list at once, where `set` would look for each key in
  /// turn.
  explicit Metadata(std::vector<Entry> entries) : entries_(std::move(entries)) {}

  const std::vector<Entry>& entries() const { return entries_; }
  const MetadataValue* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }

  /// Replaces the value of a key in place, or appends.
  void set(std::string_view key, MetadataValue value);
  void set_uint32(std::string_view key, int64_t value);
  void set_float(std::string_view key, double value);
  void set_bool(std::string_view key, bool value);
  void set_string(std::string_view key, std::string value);
  void set_strings(std::string_view key, std::vector<std::string> values);
  void set_floats(std::string_view key, std::vector<double> values);
  void set_int32s(std::string_view key, std::vector<int64_t> values);
  void erase(std::string_view key);

  // The value, or nothing where the key is missing. Throws Error where it is of another kind.
  std::optional<int64_t> integer(std::string_view key) const;  ///< any integer type
  std::optional<double> number(std::string_view key) const;    ///< any integer or float type
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> string(std::string_view key) const;
  const std::vector<std::string>* strings(std::string_view key) const;
  const std::vector<double>* numbers(std::string_view key) const;    ///< float arrays
  const std::vector<int64_t>* integers(std::string_view key) const;  ///< integer arrays

 private:
  std::vector<Entry> entries_;
};

/// "uint8", "string", "array": for people.
std::string_view value_type_name(ValueType type);

}  // namespace fewbits
