#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"

namespace fewbits {
namespace {

constexpr int kMaxDepth = 64;
constexpr int64_t kMaxFileBytes = int64_t{1} << 30;

[[noreturn]] void fail(std::string_view where, std::string_view what) {
  throw Error(fmt::format("{}: {}", where, what));
}

/// Refuses what the library would take: deep nesting and duplicate keys.
class Guard {
 public:
  explicit Guard(std::string_view where) : where_(where) {}

  bool operator()(int depth, Json::parse_event_t event, Json& parsed) {
    using Event = Json::parse_event_t;
    if (depth > kMaxDepth) fail(where_, fmt::format("JSON nested deeper than {}", kMaxDepth));
    if (event == Event::object_start) keys_.emplace_back();
    if (event == Event::object_end) keys_.pop_back();
    if (event == Event::key && !keys_.back().insert(parsed.get<std::string>()).second) {
      fail(where_, fmt::format("duplicate JSON key '{}'", parsed.get<std::string>()));
    }
    return true;
  }

 private:
  std::string_view where_;
  std::vector<std::set<std::string>> keys_;
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
    if (std::floor(number) == number && std::abs(number) < 0x1p53) return static_cast<int64_t>(number);
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
  try {
    return Json::parse(text, Guard(where));
  } catch (const Json::exception& error) {
    fail(where, fmt::format("bad JSON: {}", error.what()));
  }
}

Json read_json_file(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  if (file.size() > kMaxFileBytes) fail(path.string(), "JSON file of more than 1 GiB");
  const auto bytes = file.bytes();
  return parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string());
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
