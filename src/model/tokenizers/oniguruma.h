#pragma once

#include <string>
#include <string_view>

namespace fewbits {

/// The PCRE2 expression (for UTF and UCP mode) that means what `expression` means to Oniguruma:
///   \s \S       White_Space          (PCRE2's \s also takes U+180E)
///   \w \W \d    Unicode's word and digit properties
///   \h          a hexadecimal digit  (PCRE2: horizontal space)
///   [a[bc]]     the union            (PCRE2: a bracket in a class is itself)
///   \p{Han}     the script           (PCRE2: its extensions too)
/// Throws Error, beginning with `where`, for [a&&b], a negated class inside a class, X{1,3}+
/// (possessive only in PCRE2) and the verbs (*...).
std::string pcre2_from_oniguruma(std::string_view expression, std::string_view where);

}  // namespace fewbits
