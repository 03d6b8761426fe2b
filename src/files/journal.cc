#include "files/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/sha256.h"
#include "base/text_view.h"
#include "files/output_file.h"

namespace fewbits {
namespace {

namespace fs = std::filesystem;

constexpr size_t kChecksumDigits = 16;
constexpr const char* kSchemaKey = "fewbits_journal";
constexpr const char* kIdentityKey = "identity";

std::string checksum(std::string_view text) {
  return sha256(std::as_bytes(std::span(text))).substr(0, kChecksumDigits);
}

[[noreturn]] void fail(const fs::path& path, std::string_view what) {
  throw Error(fmt::format("{}: {}", path.string(), what));
}

[[noreturn]] void fail_writing(const fs::path& path) {
  throw DiskError(fmt::format("{}: {}", path.string(), std::strerror(errno)));
}

/// The JSON of a line without its end; null where the line does not count.
Json parse_line(std::string_view line) {
  if (line.size() <= kChecksumDigits || line[kChecksumDigits] != ' ') return nullptr;
  const std::string_view text = line.substr(kChecksumDigits + 1);
  if (checksum(text) != line.substr(0, kChecksumDigits)) return nullptr;
  try {
    Json json = parse_json(text, "journal");
    return json.is_object() ? json : Json(nullptr);
  } catch (const Error&) {
    return nullptr;
  }
}

/// "'model.safetensors' is another file"
std::string file_difference(const Json& before, const Json& now) {
  if (!before.is_array() || !now.is_array()) return "other files";
  for (const Json& file : now) {
    if (std::find(before.begin(), before.end(), file) != before.end()) continue;
    return fmt::format("'{}' is not the file it was", file.value("name", ""));
  }
  return "there were more files";
}

/// Opens and locks; nothing where the file was removed in between.
int open_locked(const fs::path& path, const fs::path& out) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (file < 0) fail(out, fmt::format("no file can be made beside it: {}", std::strerror(errno)));
  // Some network folders have no locks: then a second run is not noticed.
  if (::flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    ::close(file);
    fail(out, "another run of fewbits is writing this output; wait for it, or give another name");
  }
  struct stat mine {
  }, there{};
  const bool regular = ::fstat(file, &mine) == 0 && S_ISREG(mine.st_mode);
  if (!regular) {
    ::close(file);
    fail(path, "is no regular file; remove it");
  }
  if (::stat(path.c_str(), &there) == 0 && there.st_ino == mine.st_ino) return file;
  ::close(file);
  return -1;
}

}  // namespace

JournalText parse_journal(std::span<const std::byte> bytes, std::string_view where) {
  const std::string_view all = text_view(bytes);
  JournalText journal;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = all.find('\n', begin);
    if (end == std::string_view::npos) break;
    Json line = parse_line(all.substr(begin, end - begin));
    if (line.is_null()) break;
    begin = end + 1;
    if (!journal.identity.is_null()) {
      journal.records.push_back(std::move(line));
      journal.ends.push_back(static_cast<int64_t>(begin));
      continue;
    }
    if (!line.contains(kSchemaKey) || line[kSchemaKey] != kJournalSchema) {
      throw Error(
          fmt::format("{}: the journal of an unfinished run of another version; remove it "
                      "to begin anew",
                      where));
    }
    journal.identity = line.value(kIdentityKey, Json::object());
    journal.begin = static_cast<int64_t>(begin);
  }
  return journal;
}

std::string journal_difference(const Json& before, const Json& now) {
  if (!before.is_object()) return "it is of another kind";
  for (const auto& [key, value] : now.items()) {
    if (before.contains(key) && before[key] == value) continue;
    if (key == "source") return file_difference(before.value(key, Json()), value);
    if (!value.is_object() || !before.contains(key) || !before[key].is_object()) {
      return fmt::format("{} was {}, is {}", key, before.value(key, Json()).dump(), value.dump());
    }
    const std::string inside = journal_difference(before[key], value);
    return inside.empty() ? fmt::format("{} said more", key) : fmt::format("{}: {}", key, inside);
  }
  return before.size() == now.size() ? "" : "more was asked for";
}

Journal::Journal(const fs::path& out) : out_(out), path_(beside_output(out, "journal")) {
  constexpr int kAttempts = 100;
  for (int i = 0; i < kAttempts && file_ < 0; ++i) file_ = open_locked(path_, out);
  if (file_ < 0) fail(out, "other runs keep taking it; wait for them");
  try {
    const MappedFile map = MappedFile::open(path_);
    text_ = parse_journal(map.bytes(), path_.string());
  } catch (...) {
    ::close(file_);
    throw;
  }
  size_ = text_.ends.empty() ? text_.begin : text_.ends.back();
  keep_ = size_ > 0;  // until it is known what for
}

Journal::~Journal() {
  if (!keep_) ::unlink(path_.c_str());
  ::close(file_);
}

void Journal::identify(const Json& identity, bool restart) {
  if (!text_.identity.is_null() && !restart) {
    const std::string difference = journal_difference(text_.identity, identity);
    if (!difference.empty()) {
      fail(out_, fmt::format("an unfinished run into this output cannot go on: {}; repeat the "
                             "command it was begun with, or add --restart",
                             difference));
    }
    cut(size_);  // what a crash left behind the last line that counts
  } else {
    text_ = {};
    cut(0);
    write_line({{kSchemaKey, kJournalSchema}, {kIdentityKey, identity}});
    text_.identity = identity;
    text_.begin = size_;
  }
  keep_ = false;
}

void Journal::truncate(size_t count) {
  check(count <= text_.records.size());
  if (count == text_.records.size()) return;
  text_.records.resize(count);
  text_.ends.resize(count);
  cut(count == 0 ? text_.begin : text_.ends.back());
}

void Journal::append(const Json& record) {
  write_line(record);
  text_.records.push_back(record);
  text_.ends.push_back(size_);
}

void Journal::write_line(const Json& json) {
  const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  const std::string line = fmt::format("{} {}\n", checksum(text), text);
  for (size_t done = 0; done < line.size();) {
    const ssize_t count =
        ::pwrite(file_, line.data() + done, line.size() - done, size_ + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_writing(path_);
    done += static_cast<size_t>(count);
  }
  if (::fdatasync(file_) != 0) fail_writing(path_);
  size_ += std::ssize(line);
}

void Journal::cut(int64_t size) {
  if (::ftruncate(file_, size) != 0) fail_writing(path_);
  size_ = size;
}

}  // namespace fewbits
