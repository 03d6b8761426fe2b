#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace fewbits {

/// One field of a message in Protocol Buffers' wire format.
struct ProtobufField {
  enum class Kind { kInteger, kBytes };
  uint64_t number = 0;
  Kind kind = Kind::kInteger;
  uint64_t integer = 0;    ///< kInteger: a varint, or the bits of a fixed 32- or 64-bit value
  std::string_view bytes;  ///< kBytes: text, bytes or a message; a view into the message read

  float as_float() const;
};

/// Reads a message field by field; never past its end.
class ProtobufReader {
 public:
  /// `where` begins the messages of errors. Both must outlive the reader.
  ProtobufReader(std::string_view message, std::string_view where)
      : rest_(message), where_(where) {}

  /// The next field, or nothing at the end. Throws Error where the bytes are no message.
  std::optional<ProtobufField> next();

 private:
  uint64_t varint();
  std::string_view take(uint64_t size);

  std::string_view rest_;
  std::string_view where_;
};

}  // namespace fewbits
