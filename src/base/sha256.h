#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace fewbits {

/// SHA-256 of bytes that come in pieces (FIPS 180-4; OpenSSL's, with the processor's own
/// instructions where it has them).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256& other);
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte> bytes);

  /// What `finish` would say now; more may follow.
  std::string so_far() const;

  /// 64 lowercase hexadecimal digits. Nothing may follow.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

std::string sha256(std::span<const std::byte> bytes);

}  // namespace fewbits
