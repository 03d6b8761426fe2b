#include "model/tokenizers/bert_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "model/tokenizers/unicode_tables.h"

namespace fewbits {
namespace {

constexpr int32_t kReplacement = 0xFFFD;
/// Long enough for the canonical decomposition of any one character.
constexpr size_t kMaxDecomposed = 8;

struct CodeRange {
  int32_t first;
  int32_t last;
};

/// What the original calls Chinese characters: blocks of ideographs, as they were in 2018.
constexpr CodeRange kChinese[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},
                                  {0x20000, 0x2A6DF}, {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF},
                                  {0x2F800, 0x2FA1F}};

bool is_chinese(int32_t code) {
  if (code < kChinese[0].first) return false;
  return std::ranges::any_of(
      kChinese, [&](const CodeRange& range) { return code >= range.first && code <= range.last; });
}

bool is_ascii_punctuation(char byte) {
  return (byte >= '!' && byte <= '/') || (byte >= ':' && byte <= '@') ||
         (byte >= '[' && byte <= '`') || (byte >= '{' && byte <= '~');
}

bool is_ascii_space(char byte) {
  return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/// Writes the text character by character, through all four changes in their order.
class Writer {
 public:
  Writer(const BertText& step, std::string& out) : step_(step), out_(out) {}

  void ascii(char byte) {
    settle();
    if (step_.clean) {
      if (byte == '\t' || byte == '\n' || byte == '\r') byte = ' ';
      if (static_cast<uint8_t>(byte) < ' ' || byte == 0x7F) return;
    }
    out_ += step_.lowercase && byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte + 32) : byte;
  }

  void other(int32_t code) {
    if (step_.clean) {
      if (code == kReplacement || is_control(code)) return;
      if (is_space(code)) return ascii(' ');
    }
    const bool spaced = step_.space_chinese && is_chinese(code);
    if (spaced) ascii(' ');
    if (step_.strip_accents) {
      decompose(code);
    } else {
      put(code);
    }
    if (spaced) ascii(' ');
  }

  /// Writes what waits for its place in canonical order.
  void settle() {
    if (marks_.empty()) return;
    std::ranges::stable_sort(marks_, {}, &Mark::combining_class);
    for (const Mark& mark : marks_) put(mark.code);
    marks_.clear();
  }

 private:
  struct Mark {
    int32_t code;
    int combining_class;
  };

  void decompose(int32_t code) {
    if (is_decomposed_later(code, /*compatible=*/false)) return part(code);
    std::array<utf8proc_int32_t, kMaxDecomposed> parts{};
    int boundary = 0;
    const auto count =
        utf8proc_decompose_char(code, parts.data(), parts.size(),
                                static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE), &boundary);
    if (count <= 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) return part(code);
    for (utf8proc_ssize_t i = 0; i < count; ++i) part(parts[static_cast<size_t>(i)]);
  }

  void part(int32_t code) {
    if (is_nonspacing_mark(code)) return;
    const int combining_class = utf8proc_get_property(code)->combining_class;
    if (combining_class == 0) {
      settle();
      put(code);
    } else {
      marks_.push_back({code, combining_class});
    }
  }

  void put(int32_t code) {
    if (step_.lowercase) {
      append_lowercase(out_, code);
    } else {
      append_utf8(out_, code);
    }
  }

  const BertText& step_;
  std::string& out_;
  std::vector<Mark> marks_;  ///< of one character: all with a combining class, none nonspacing
};

}  // namespace

std::string apply_bert(const BertText& step, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  Writer writer(step, out);
  for (size_t at = 0; at < text.size();) {
    const char byte = text[at];
    if (static_cast<uint8_t>(byte) < 0x80) {
      writer.ascii(byte);
      ++at;
      continue;
    }
    const Utf8Char character = decode_utf8(text, static_cast<int64_t>(at));
    writer.other(character.code < 0 ? kReplacement : character.code);
    at += static_cast<size_t>(character.bytes);
  }
  writer.settle();
  return out;
}

void split_bert(std::string_view text, ByteRange word, std::vector<ByteRange>& words) {
  int64_t begin = word.begin;
  const auto end_word = [&](int64_t end) {
    if (begin < end) words.push_back({begin, end});
  };
  for (int64_t at = word.begin; at < word.end;) {
    const char byte = text[static_cast<size_t>(at)];
    Utf8Char character = {0, 1};
    bool space = is_ascii_space(byte);
    bool mark = is_ascii_punctuation(byte);
    if (static_cast<uint8_t>(byte) >= 0x80) {
      character = decode_utf8(text, at);
      space = is_space(character.code);
      mark = !space && is_punctuation(character.code);
    }
    const int64_t next = at + character.bytes;
    if (space || mark) {
      end_word(at);
      if (mark) words.push_back({at, next});
      begin = next;
    }
    at = next;
  }
  end_word(word.end);
}

}  // namespace fewbits
