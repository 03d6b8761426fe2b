#include "files/safetensors_writer.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/checked_math.h"
#include "base/error.h"

namespace fewbits {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the header's length is written as it is");

constexpr int64_t kAlignment = 8;  // of the data; blanks behind the JSON

std::string header_of(const std::filesystem::path& path,
                      const std::vector<SafetensorsEntry>& entries) {
  Json header = {{"__metadata__", {{"format", "pt"}}}};  // what loaders of PyTorch weights look for
  int64_t offset = 0;
  for (const SafetensorsEntry& entry : entries) {
    if (header.contains(entry.name)) {
      throw Error(fmt::format("{}: tensor '{}' is there twice", path.string(), entry.name));
    }
    header[entry.name] = {{"dtype", entry.dtype},
                          {"shape", entry.shape},
                          {"data_offsets", {offset, offset + entry.bytes}}};
    offset += entry.bytes;
  }
  std::string text = header.dump();
  text.resize(static_cast<size_t>(round_up(std::ssize(text), kAlignment)), ' ');
  const auto length = static_cast<uint64_t>(text.size());
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + text;
}

int64_t data_bytes(const std::vector<SafetensorsEntry>& entries) {
  int64_t sum = 0;
  for (const SafetensorsEntry& entry : entries) sum += entry.bytes;
  return sum;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     const std::vector<SafetensorsEntry>& entries,
                                     OutputFile::Lifetime lifetime)
    : header_(header_of(path, entries)),
      bytes_(std::ssize(header_) + data_bytes(entries)),
      file_(path, bytes_, lifetime) {
  if (lifetime == OutputFile::Lifetime::kProcess) resume(0);
}

void SafetensorsWriter::resume(int64_t bytes) {
  if (bytes > 0) return file_.truncate(std::ssize(header_) + bytes);
  file_.truncate(0);
  file_.append(std::as_bytes(std::span(header_)));
}

void SafetensorsWriter::verify_header() {
  file_.verify_begin(header_);
}

void SafetensorsWriter::commit() {
  check(file_.size() == bytes_);
  file_.commit();
}

}  // namespace fewbits
