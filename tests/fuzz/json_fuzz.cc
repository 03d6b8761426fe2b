// Bytes as JSON: what parses is printed and parses to the same again, or Error is thrown, from the
// typed access too.
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace {

using namespace fewbits;

void access_as_any_type(const Json& json, const char* key) {
  const auto tried = [](auto access) {
    try {
      access();
    } catch (const Error&) {
    }
  };
  tried([&] { json_integer(json, key, "fuzz"); });
  tried([&] { json_number(json, key, "fuzz"); });
  tried([&] { json_string(json, key, "fuzz"); });
  tried([&] { json_bool_or(json, key, false, "fuzz"); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const Json json = parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
    check(parse_json(json.dump(), "fuzz") == json);
    access_as_any_type(json, "a");
  } catch (const Error&) {
  }
  return 0;
}
