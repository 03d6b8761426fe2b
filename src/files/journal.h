#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"

// What a long run has finished, so that it can go on where it was killed. One file beside the
// output, .NAME.fewbits-journal, text, only ever appended to:
//
//     CHECKSUM {"fewbits_journal": 2, "identity": {...}}
//     CHECKSUM {...}                                        one line for each finished part
//
// CHECKSUM is the first 16 hexadecimal digits of the SHA-256 of the rest of its line. A line counts
// when it is whole and its checksum is right; the first that is not ends the journal, as a power
// cut would. Every line is on the disk before `append` returns.
//
// The file is locked while its run lives: a second run into the same output is refused.
namespace fewbits {

inline constexpr int64_t kJournalSchema = 2;

/// What is said to whoever stops a run that has one.
inline constexpr const char* kGoesOn =
    "the same command goes on there, with --restart it begins anew";

/// The lines that count.
struct JournalText {
  Json identity;  ///< null: none; the journal is empty
  std::vector<Json> records;
  std::vector<int64_t> ends;  ///< where each record's line ends
  int64_t begin = 0;          ///< where the first record begins
};

/// Any bytes give an answer. Throws Error, beginning with `where`, only for a whole first line of
/// another schema.
JournalText parse_journal(std::span<const std::byte> bytes, std::string_view where);

/// What in the identity of a run differs from the one before, in words; "" where nothing does.
std::string journal_difference(const Json& before, const Json& now);

class Journal {
 public:
  /// Opens the journal of `out`, or begins one. Throws Error where another run holds it or the
  /// folder cannot be written.
  explicit Journal(const std::filesystem::path& out);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Says what is run. Throws Error where the journal is of a run that differs, and says in what;
  /// `restart` forgets that run instead. Before the first record.
  void identify(const Json& identity, bool restart);

  const std::vector<Json>& records() const { return text_.records; }

  /// Forgets the records from `count` on. REQUIRES: count <= records().size().
  void truncate(size_t count);

  void append(const Json& record);

  /// From here on the file stays when this object goes: for a run that stops and can go on.
  void keep() { keep_ = true; }

  const std::filesystem::path& path() const { return path_; }

 private:
  void write_line(const Json& json);
  void cut(int64_t size);

  std::filesystem::path out_, path_;
  int file_ = -1;
  bool keep_ = false;
  int64_t size_ = 0;
  JournalText text_;
};

}  // namespace fewbits
