#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

// JSON from strangers: nesting and size are bounded, and every error is an Error that begins with
// `where`.
namespace fewbits {

/// Keys keep the order of the file: metadata goes out in the order it came in.
using Json = nlohmann::ordered_json;

/// Throws Error on bad JSON, a duplicate key of one object, or nesting deeper than 64.
Json parse_json(std::string_view text, std::string_view where);

/// Reads and parses a file of at most 1 GiB. `where` in errors is the path.
Json read_json_file(const std::filesystem::path& path);

// The value of a key, of the named kind; a missing key or another kind is an Error that names both.
int64_t json_integer(const Json& object, const char* key, std::string_view where);
double json_number(const Json& object, const char* key, std::string_view where);
std::string json_string(const Json& object, const char* key, std::string_view where);

// The same with a value for a missing or null key.
int64_t json_integer_or(const Json& object, const char* key, int64_t fallback,
                        std::string_view where);
double json_number_or(const Json& object, const char* key, double fallback, std::string_view where);
bool json_bool_or(const Json& object, const char* key, bool fallback, std::string_view where);
std::string json_string_or(const Json& object, const char* key, std::string fallback,
                           std::string_view where);

}  // namespace fewbits
