#include "files/zip.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "files/errors.h"

namespace fewbits {
namespace {

constexpr uint32_t kLocalHeader = 0x04034B50, kCentralHeader = 0x02014B50, kEnd = 0x06054B50;
constexpr uint32_t kEnd64 = 0x06064B50, kEnd64Locator = 0x07064B50;
constexpr uint64_t kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr uint64_t kLocalBytes = 30, kCentralBytes = 46;
constexpr uint64_t kMostCommentBytes = 65535;
constexpr uint16_t kZip64Extra = 1;
constexpr uint32_t kInZip64 = 0xFFFFFFFF;

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  std::vector<ZipMember> read() {
    const Directory directory = find_directory();
    std::vector<ZipMember> members;
    uint64_t at = directory.offset;
    for (uint64_t i = 0; i < directory.count; ++i) members.push_back(read_member(at));
    return members;
  }

 private:
  struct Directory {
    uint64_t offset, count;
  };

  template <class... Parts>
  [[noreturn]] void fail(fmt::format_string<Parts...> text, Parts&&... parts) const {
    throw Error(fmt::format("{}: {}", where_, fmt::format(text, std::forward<Parts>(parts)...)));
  }

  std::span<const std::byte> part(uint64_t at, uint64_t size) const {
    if (at > bytes_.size() || size > bytes_.size() - at) {
      fail("a part of the zip archive lies outside its {} bytes; is it truncated?", bytes_.size());
    }
    return bytes_.subspan(static_cast<size_t>(at), static_cast<size_t>(size));
  }

  /// Little-endian, wherever it lies.
  template <class Number>
  Number number(uint64_t at) const {
    Number value;
    std::memcpy(&value, part(at, sizeof value).data(), sizeof value);
    return value;
  }

  /// The end record is the last thing in the file, but for a comment.
  uint64_t find_end() const {
    if (bytes_.size() < kEndBytes) fail("no zip archive: only {} bytes", bytes_.size());
    const uint64_t last = bytes_.size() - kEndBytes;
    const uint64_t first = last - std::min(last, kMostCommentBytes);
    for (uint64_t at = last + 1; at-- > first;) {
      if (number<uint32_t>(at) == kEnd) return at;
    }
    fail("the zip archive has no end; is it truncated?");
  }

  Directory find_directory() const {
    const uint64_t end = find_end();
    Directory directory{number<uint32_t>(end + 16), number<uint16_t>(end + 10)};
    if (directory.offset != kInZip64 && directory.count != 0xFFFF) return directory;
    if (end < kLocatorBytes || number<uint32_t>(end - kLocatorBytes) != kEnd64Locator) {
      return directory;
    }
    const auto end64 = number<uint64_t>(end - kLocatorBytes + 8);
    part(end64, kEnd64Bytes);
    if (number<uint32_t>(end64) != kEnd64) fail("the zip archive's ZIP64 record is broken");
    return {number<uint64_t>(end64 + 48), number<uint64_t>(end64 + 32)};
  }

  /// Sizes and offset of a member, of which large ones stand in an extra field.
  struct Place {
    uint64_t stored, plain, offset;
  };

  void read_zip64(std::span<const std::byte> extra, Place& place) const {
    while (extra.size() >= 4) {
      uint16_t kind, size;
      std::memcpy(&kind, extra.data(), 2);
      std::memcpy(&size, extra.data() + 2, 2);
      extra = extra.subspan(4);
      if (size > extra.size()) fail("an extra field of the zip archive is broken");
      if (kind != kZip64Extra) {
        extra = extra.subspan(size);
        continue;
      }
      auto values = extra.first(size);
      for (uint64_t* value : {&place.plain, &place.stored, &place.offset}) {
        if (*value != kInZip64) continue;
        if (values.size() < 8) fail("a ZIP64 field of the zip archive is broken");
        std::memcpy(value, values.data(), 8);
        values = values.subspan(8);
      }
      return;
    }
  }

  ZipMember read_member(uint64_t& at) const {
    part(at, kCentralBytes);
    if (number<uint32_t>(at) != kCentralHeader) fail("the zip archive's directory is broken");
    const auto name_bytes = number<uint16_t>(at + 28), extra_bytes = number<uint16_t>(at + 30);
    const auto name = part(at + kCentralBytes, name_bytes);
    ZipMember member{{reinterpret_cast<const char*>(name.data()), name.size()}, {}};
    const bool encrypted = (number<uint16_t>(at + 8) & 1) != 0;
    if (encrypted || number<uint16_t>(at + 10) != 0) {
      fail("member {} is compressed or encrypted, which is not supported", quote_name(member.name));
    }
    Place place{number<uint32_t>(at + 20), number<uint32_t>(at + 24), number<uint32_t>(at + 42)};
    read_zip64(part(at + kCentralBytes + name_bytes, extra_bytes), place);
    if (place.stored != place.plain) {
      fail("member {} has {} bytes, but {} stored", quote_name(member.name), place.plain,
           place.stored);
    }
    member.bytes = stored_bytes(place, member.name);
    at += kCentralBytes + name_bytes + extra_bytes + number<uint16_t>(at + 32);
    return member;
  }

  std::span<const std::byte> stored_bytes(const Place& place, const std::string& name) const {
    part(place.offset, kLocalBytes);
    if (number<uint32_t>(place.offset) != kLocalHeader) {
      fail("member {} is not where the directory says", quote_name(name));
    }
    const uint64_t header =
        kLocalBytes + number<uint16_t>(place.offset + 26) + number<uint16_t>(place.offset + 28);
    part(place.offset, header);
    return part(place.offset + header, place.stored);
  }

  std::span<const std::byte> bytes_;
  std::string_view where_;
};

}  // namespace

std::vector<ZipMember> read_zip(std::span<const std::byte> archive, std::string_view where) {
  return Reader(archive, where).read();
}

bool looks_like_zip(std::span<const std::byte> bytes) {
  uint32_t start = 0;
  if (bytes.size() < sizeof start) return false;
  std::memcpy(&start, bytes.data(), sizeof start);
  return start == kLocalHeader;
}

}  // namespace fewbits
