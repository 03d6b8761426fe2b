#include <gtest/gtest.h>

#include <array>

#include "files/gguf.h"
#include "files/safetensors.h"
#include "files/testing.h"

// Small valid files with each byte changed in turn, or cut off anywhere: they open, with every
// tensor inside the file, or throw Error. Nothing else; under the sanitizers that includes reading
// one byte too far.
namespace fewbits {
namespace {

using Parse = ParsedFile (*)(std::span<const std::byte>, std::string_view);

/// Whether the bytes parse. They are copied to their exact size, so that a sanitizer sees their
/// end.
bool opens(Parse parse, std::string_view text) {
  const std::vector<char> bytes(text.begin(), text.end());
  const auto file = std::as_bytes(std::span(bytes));
  try {
    for (const StoredTensor& tensor : parse(file, "m").tensors) {
      const auto part = tensor.view.bytes;
      EXPECT_TRUE(part.data() >= file.data() &&
                  part.data() + part.size() <= file.data() + file.size());
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

void change_every_byte(Parse parse, std::string file) {
  constexpr std::array<unsigned char, 5> kChanges = {0x01, 0x80, 0xff, 0x20, 0x7f};
  for (char& byte : file) {
    const char original = byte;
    for (const unsigned char change : kChanges) {
      byte = static_cast<char>(static_cast<unsigned char>(original) ^ change);
      opens(parse, file);
    }
    byte = original;
  }
  EXPECT_TRUE(opens(parse, file));
}

void cut_everywhere(Parse parse, const std::string& file) {
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_FALSE(opens(parse, std::string_view(file).substr(0, size))) << size;
  }
}

std::string small_gguf() {
  TestFolder folder;
  Metadata metadata;
  metadata.set_string("general.architecture", "llama");
  metadata.set_uint32("general.alignment", 32);
  metadata.set_strings("tokens", {"a", "bc", ""});
  metadata.set_floats("scores", {1, -2});
  metadata.set_int32s("types", {1, 2, 3});
  metadata.set_bool("flag", true);
  metadata.set("big", {ValueType::kUint64, int64_t{1} << 40});
  GgufWriter writer(folder / "m", metadata,
                    {{"a", &format_named("F32"), {2, 4}}, {"b", &format_named("Q8_0"), {64}}});
  writer.append(as_bytes(std::string(32, 'a')));
  writer.append(as_bytes(std::string(68, 'b')));
  writer.commit();
  std::string file = read_file(folder / "m");
  file.resize(file.size() - 28);  // the padding behind the last tensor may be missing
  return file;
}

std::string small_safetensors() {
  return safetensors_file(R"({"__metadata__":{"format":"pt"},)"
                          R"("a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                          R"("b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}})",
                          22);
}

TEST(Mutation, Gguf) {
  change_every_byte(parse_gguf, small_gguf());
  cut_everywhere(parse_gguf, small_gguf());
}

TEST(Mutation, Safetensors) {
  change_every_byte(parse_safetensors, small_safetensors());
  cut_everywhere(parse_safetensors, small_safetensors());
}

}  // namespace
}  // namespace fewbits
