#pragma once

#include <cstdint>
#include <string>

namespace fewbits {

/// ggml's name of a tensor type, also of those that no format here reads; "type 99" where ggml has
/// none either. Source: the enumeration in ggml.h and PyPI gguf's constants.py. Numbers 4, 5, 31 to
/// 33 and 36 to 38 are retired.
std::string ggml_type_name(uint32_t type);

}  // namespace fewbits
