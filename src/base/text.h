#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Small text helpers shared by everything that talks to people.
namespace fewbits {

/// "981 B", "12.3 KB", "1.25 GB": powers of 1000, three digits.
std::string human_bytes(int64_t bytes);

/// Whether `text` matches `pattern`, in which * stands for any run of characters and ? for one.
bool glob_match(std::string_view pattern, std::string_view text);

/// "a, b, c"
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

/// "'Q9_K' is no format; known: F16, F32, ..." with the nearest known name first where one is near.
std::string unknown_name(std::string_view name, std::string_view kind,
                         const std::vector<std::string>& known);

/// ASCII only; other bytes stay.
std::string lower_ascii(std::string_view text);

}  // namespace fewbits
