#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

// Questions whose answer is a continuation of a text, as the field's harnesses pose them without
// examples.
//
// Three kinds of file are read:
//   {"query": ..., "choices": [...], "gold": 2}      one JSON object per line: multiple choice
//   {"context": ..., "continuation": ...}            one JSON object per line: the last word
//   (LAMBADA) plain lines, six per item                        HellaSwag: context, number of the
//   right ending, four endings
//
// The continuation always begins with the one blank between it and its context, and blanks at the
// end of the context go. A query with a line that begins with "Question:" (ARC, PIQA, BoolQ) is
// followed by a line "Answer:", as lm-eval poses these; BoolQ here keeps the "Passage:" that its
// file has before the text, so it is close to lm-eval's and not the same.
namespace fewbits {

enum class TaskKind { kChoices, kLastWord };

struct TaskItem {
  std::string context;
  std::vector<std::string>
      continuations;  ///< " signs": one for kLastWord, two or more for kChoices
  int64_t right = 0;
};

struct Task {
  std::string name;
  TaskKind kind = TaskKind::kChoices;
  std::vector<TaskItem> items;  ///< never empty
};

/// Reads the first `limit` items of a file (0: all). The task is named after the file. Throws Error
/// that names the line where the file is none of the three kinds or breaks off.
Task read_task(const std::filesystem::path& path, int64_t limit = 0);

/// The same from text; `where` begins errors.
Task parse_task(std::string_view text, std::string_view where, int64_t limit = 0);

}  // namespace fewbits
