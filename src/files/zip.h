#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fewbits {

/// One member of a zip archive that is stored as it is.
struct ZipMember {
  std::string name;
  std::span<const std::byte> bytes;
};

/// The members of a zip archive by its central directory, ZIP64 included (PKWARE's APPNOTE 6.3).
/// Throws Error, beginning with `where`, for compressed or encrypted members and for any that lies
/// outside the archive.
std::vector<ZipMember> read_zip(std::span<const std::byte> archive, std::string_view where);

/// Whether the bytes begin as a zip archive does.
bool looks_like_zip(std::span<const std::byte> bytes);

}  // namespace fewbits
