#include "model/tokenizers/protobuf.h"

#include <fmt/format.h>

#include <bit>

#include "base/error.h"

namespace fewbits {

float ProtobufField::as_float() const {
  return std::bit_cast<float>(static_cast<uint32_t>(integer));
}

std::optional<ProtobufField> ProtobufReader::next() {
  if (rest_.empty()) return std::nullopt;
  const uint64_t tag = varint();
  ProtobufField field;
  field.number = tag >> 3;
  const auto fixed = [&](uint64_t size) {
    const std::string_view bytes = take(size);
    for (size_t i = 0; i < bytes.size(); ++i) {
      field.integer |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
    }
  };
  switch (tag & 7) {  // the wire type
    case 0:
      field.integer = varint();
      break;
    case 1:
      fixed(8);
      break;
    case 2:
      field.kind = ProtobufField::Kind::kBytes;
      field.bytes = take(varint());
      break;
    case 5:
      fixed(4);
      break;
    default:
      throw Error(fmt::format("{}: field {} of a message has the unknown wire type {}", where_,
                              field.number, tag & 7));
  }
  return field;
}

uint64_t ProtobufReader::varint() {
  constexpr size_t kMaxBytes = 10;
  uint64_t value = 0;
  for (size_t i = 0; i < kMaxBytes; ++i) {
    const auto byte = static_cast<uint8_t>(take(1)[0]);
    value |= static_cast<uint64_t>(byte & 0x7F) << (7 * i);
    if ((byte & 0x80) == 0) return value;
  }
  throw Error(fmt::format("{}: a number of a message has more than {} bytes", where_, kMaxBytes));
}

std::string_view ProtobufReader::take(uint64_t size) {
  if (size > rest_.size()) {
    throw Error(fmt::format("{}: a message ends {} bytes before its last field does", where_,
                            size - rest_.size()));
  }
  const std::string_view taken = rest_.substr(0, static_cast<size_t>(size));
  rest_.remove_prefix(taken.size());
  return taken;
}

}  // namespace fewbits
