// Bytes as YAML: what parses has no more than text in it, or Error is thrown.
#include <string_view>

#include "base/error.h"
#include "files/yaml.h"

namespace {

using namespace fewbits;

void check_text(const Json& json) {
  if (json.is_structured()) {
    for (const Json& part : json) check_text(part);
  } else {
    check(json.is_string());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Json json = parse_yaml({reinterpret_cast<const char*>(data), size}, "fuzz");
    if (!json.is_null()) check_text(json);
  } catch (const Error&) {
  }
  return 0;
}
