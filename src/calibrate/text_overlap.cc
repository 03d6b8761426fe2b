#include "calibrate/text_overlap.h"

#include <algorithm>
#include <array>

#include "base/mapped_file.h"
#include "base/text_view.h"

namespace fewbits {
namespace {

constexpr size_t kPassageBytes = 64;
constexpr uint64_t kBase = 0x9E3779B97F4A7C15;  // odd, so that no byte's part is lost

constexpr uint64_t power(uint64_t base, size_t exponent) {
  uint64_t product = 1;
  for (size_t i = 0; i < exponent; ++i) product *= base;
  return product;
}

/// Spreads a polynomial hash, whose low bits are poor, over all bits (SplitMix64's finalizer).
uint64_t mixed(uint64_t hash) {
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EB;
  return hash ^ (hash >> 31);
}

bool is_blank(char byte) {
  return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

/// body(hash) of every passage, by a rolling hash (Karp and Rabin 1987).
template <class Body>
void each_passage(std::string_view text, const Body& body) {
  constexpr uint64_t kOldest = power(kBase, kPassageBytes);
  std::array<uint8_t, kPassageBytes> passage{};
  uint64_t hash = 0;
  size_t bytes = 0;
  for (const char character : text) {
    if (is_blank(character)) continue;
    const auto byte = static_cast<uint8_t>(character);
    uint8_t& place = passage[bytes % kPassageBytes];
    hash = hash * kBase + byte - kOldest * place;
    place = byte;
    if (++bytes >= kPassageBytes) body(mixed(hash));
  }
}

/// Keeps the least hashes seen.
class SketchBuilder {
 public:
  void add(std::string_view text) {
    each_passage(text, [&](uint64_t hash) {
      if (sketch_.size() == kSketchPassages && hash >= sketch_.back()) return;
      const auto place = std::ranges::lower_bound(sketch_, hash);
      if (place != sketch_.end() && *place == hash) return;
      sketch_.insert(place, hash);
      if (sketch_.size() > kSketchPassages) sketch_.pop_back();
    });
  }

  const TextSketch& sketch() const { return sketch_; }

 private:
  TextSketch sketch_;
};

}  // namespace

TextSketch sketch_of(std::string_view text) {
  SketchBuilder builder;
  builder.add(text);
  return builder.sketch();
}

TextSketch sketch_of(std::span<const std::filesystem::path> files) {
  SketchBuilder builder;
  for (const auto& path : files) {
    const MappedFile file = MappedFile::open(path);
    builder.add(text_view(file.bytes()));
  }
  return builder.sketch();
}

int64_t passages_found(const TextSketch& sketch, std::string_view text) {
  if (sketch.empty()) return 0;
  std::vector<bool> found(sketch.size());
  each_passage(text, [&](uint64_t hash) {
    if (hash > sketch.back()) return;
    const auto place = std::ranges::lower_bound(sketch, hash);
    if (*place == hash) found[static_cast<size_t>(place - sketch.begin())] = true;
  });
  return std::ranges::count(found, true);
}

}  // namespace fewbits
