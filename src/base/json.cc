#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text_view.h"

namespace fewbits {
namespace {

constexpr size_t kMaxDepth = 64;
constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

// A value takes up to 20 times the bytes of its text. What it takes is counted with the most that
// growing arrays hold at once, and bounded: the largest tokenizers come to 150 MB.
constexpr int64_t kMaxMemory = int64_t{500} << 20;
constexpr int64_t kElementMemory = 3 * sizeof(Json);
constexpr int64_t kMemberMemory = 3 * sizeof(Json::object_t::value_type) + 80;  // and its known key

[[noreturn]] void fail(std::string_view where, std::string_view what) {
  throw Error(fmt::format("{}: {}", where, what));
}

/// Builds the value itself from the library's events, for two reasons: the library would take deep
/// nesting and duplicate keys, and its ordered objects look through all their keys for each new one
/// (20 s for a vocabulary of 128,000).
class Builder {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  explicit Builder(std::string_view where) : where_(where) {}
  Json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool value) { return add(value); }
  bool number_integer(number_integer_t value) { return add(value); }
  bool number_unsigned(number_unsigned_t value) { return add(value); }
  bool number_float(number_float_t value, const string_t&) { return add(value); }
  bool string(string_t& value) {
    spend(std::ssize(value));
    return add(std::move(value));
  }
  bool binary(binary_t& value) { return add(std::move(value)); }

  bool start_array(size_t) { return open(Json::array()); }
  bool end_array() { return close(); }
  bool start_object(size_t) { return open(Json::object()); }
  bool end_object() { return close(); }

  bool key(string_t& key) {
    spend(kMemberMemory + 2 * std::ssize(key));
    if (!open_.back().keys.insert(key).second) {
      fail(where_, fmt::format("duplicate JSON key '{}'", key));
    }
    key_ = std::move(key);
    return true;
  }

  bool parse_error(size_t, const std::string&, const Json::exception& error) {
    fail(where_, fmt::format("bad JSON: {}", error.what()));
  }

 private:
  /// An array or object whose end is still to come. `value` stays where it is as long as it is
  /// open: nothing is added to what holds it.
  struct Open {
    Json* value;
    std::unordered_set<std::string> keys;
  };

  bool open(Json value) {
    if (open_.size() == kMaxDepth)
      fail(where_, fmt::format("JSON nested deeper than {}", kMaxDepth));
    open_.push_back({place(std::move(value)), {}});
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  template <class Value>
  bool add(Value&& value) {
    place(Json(std::forward<Value>(value)));
    return true;
  }

  void spend(int64_t bytes) {
    memory_ += bytes;
    if (memory_ > kMaxMemory) {
      fail(where_, "JSON of so many values that they take more than 500 MB; no real file has them");
    }
  }

  Json* place(Json value) {
    spend(kElementMemory);
    if (open_.empty()) return &(root_ = std::move(value));
    Json& parent = *open_.back().value;
    if (parent.is_array()) {
      auto& elements = parent.get_ref<Json::array_t&>();
      return &elements.emplace_back(std::move(value));
    }
    // As the vector that it is: `key` has made sure that the key is new.
    Json::object_t::Container& members = parent.get_ref<Json::object_t&>();
    return &members.emplace_back(std::move(key_), std::move(value)).second;
  }

  std::string_view where_;
  Json root_;
  std::vector<Open> open_;
  std::string key_;
  int64_t memory_ = 0;
};

const Json* find(const Json& object, const char* key, std::string_view where) {
  if (!object.is_object()) fail(where, "a JSON object is expected");
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

const Json& need(const Json& object, const char* key, std::string_view where) {
  const Json* value = find(object, key, where);
  if (value == nullptr) fail(where, fmt::format("'{}' is missing", key));
  return *value;
}

int64_t to_integer(const Json& value, const char* key, std::string_view where) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > INT64_MAX) {
    fail(where, fmt::format("'{}' is too large", key));
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number_float()) {  // some writers print 2048 as 2048.0
    const double number = value.get<double>();
    if (std::floor(number) == number && std::abs(number) < 0x1p53)
      return static_cast<int64_t>(number);
  }
  fail(where, fmt::format("'{}' must be an integer", key));
}

double to_number(const Json& value, const char* key, std::string_view where) {
  if (!value.is_number()) fail(where, fmt::format("'{}' must be a number", key));
  return value.get<double>();
}

std::string to_string(const Json& value, const char* key, std::string_view where) {
  if (!value.is_string()) fail(where, fmt::format("'{}' must be a string", key));
  return value.get<std::string>();
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) {
  Builder builder(where);
  try {
    Json::sax_parse(text, &builder);
  } catch (const Json::exception& error) {
    fail(where, fmt::format("bad JSON: {}", error.what()));
  }
  return builder.take();
}

Json read_json_file(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  if (file.size() > kMaxFileBytes) fail(path.string(), "JSON file of more than 1 GiB");
  return parse_json(text_view(file.bytes()), path.string());
}

int64_t json_integer(const Json& object, const char* key, std::string_view where) {
  return to_integer(need(object, key, where), key, where);
}

double json_number(const Json& object, const char* key, std::string_view where) {
  return to_number(need(object, key, where), key, where);
}

std::string json_string(const Json& object, const char* key, std::string_view where) {
  return to_string(need(object, key, where), key, where);
}

int64_t json_integer_or(const Json& object, const char* key, int64_t fallback,
                        std::string_view where) {
  const Json* value = find(object, key, where);
  return value == nullptr ? fallback : to_integer(*value, key, where);
}

double json_number_or(const Json& object, const char* key, double fallback,
                      std::string_view where) {
  const Json* value = find(object, key, where);
  return value == nullptr ? fallback : to_number(*value, key, where);
}

bool json_bool_or(const Json& object, const char* key, bool fallback, std::string_view where) {
  const Json* value = find(object, key, where);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(where, fmt::format("'{}' must be true or false", key));
  return value->get<bool>();
}

std::string json_string_or(const Json& object, const char* key, std::string fallback,
                           std::string_view where) {
  const Json* value = find(object, key, where);
  return value == nullptr ? fallback : to_string(*value, key, where);
}

}  // namespace fewbits
