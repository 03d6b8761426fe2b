#include "evaluate/task.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/text_view.h"

namespace fewbits {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";
constexpr size_t kMaxChoices = 64;

std::string_view without_trailing_blanks(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kBlanks) + 1);
}

std::string_view trimmed(std::string_view text) {
  text = without_trailing_blanks(text);
  const size_t start = text.find_first_not_of(kBlanks);
  return start == std::string_view::npos ? std::string_view() : text.substr(start);
}

/// Hands out a text line by line and knows where it is.
class Lines {
 public:
  Lines(std::string_view text, std::string_view where) : rest_(text), where_(where) {}

  std::optional<std::string_view> next() {
    if (rest_.empty()) return std::nullopt;
    ++number_;
    const size_t end = rest_.find('\n');
    const std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(end == std::string_view::npos ? rest_.size() : end + 1);
    return line;
  }

  /// The next line, which the format demands and which may not be blank.
  std::string_view demand(std::string_view what) {
    const std::optional<std::string_view> line = next();
    if (!line) throw Error(fmt::format("{}: the file ends where {} should follow", here(), what));
    if (trimmed(*line).empty())
      throw Error(fmt::format("{}: empty, where {} should be", here(), what));
    return trimmed(*line);
  }

  std::string here() const { return fmt::format("{}, line {}", where_, number_); }

 private:
  std::string_view rest_;
  std::string_view where_;
  int64_t number_ = 0;
};

std::string continuation_of(std::string_view text, std::string_view where) {
  if (trimmed(text).empty()) throw Error(fmt::format("{}: an empty continuation", where));
  return fmt::format(" {}", trimmed(text));
}

std::string posed(std::string_view query) {
  std::string context(without_trailing_blanks(query));
  if (context.starts_with("Question:") || context.find("\nQuestion:") != std::string::npos)
    context += "\nAnswer:";
  return context;
}

void check_right(const TaskItem& item, std::string_view where) {
  const auto count = static_cast<int64_t>(item.continuations.size());
  if (item.right >= 0 && item.right < count) return;
  throw Error(
      fmt::format("{}: choice {} is said to be right, there are {}", where, item.right, count));
}

TaskItem choices_item(const Json& json, std::string_view where) {
  TaskItem item{.context = posed(json_string(json, "query", where)),
                .continuations = {},
                .right = json_integer(json, "gold", where)};
  const auto choices = json.find("choices");
  if (choices == json.end() || !choices->is_array() || choices->size() < 2 ||
      choices->size() > kMaxChoices) {
    throw Error(fmt::format("{}: 'choices' must be a list of 2 to {} texts", where, kMaxChoices));
  }
  for (const Json& choice : *choices) {
    if (!choice.is_string()) throw Error(fmt::format("{}: a choice is no text", where));
    item.continuations.push_back(continuation_of(choice.get_ref<const std::string&>(), where));
  }
  check_right(item, where);
  return item;
}

TaskItem last_word_item(const Json& json, std::string_view where) {
  return {.context = std::string(without_trailing_blanks(json_string(json, "context", where))),
          .continuations = {continuation_of(json_string(json, "continuation", where), where)}};
}

bool full(const Task& task, int64_t limit) {
  return limit > 0 && static_cast<int64_t>(task.items.size()) >= limit;
}

Task parse_json_lines(std::string_view text, std::string_view where, int64_t limit) {
  Task task;
  Lines lines(text, where);
  while (!full(task, limit)) {
    const std::optional<std::string_view> line = lines.next();
    if (!line) break;
    if (trimmed(*line).empty()) continue;
    const std::string here = lines.here();
    const Json json = parse_json(*line, here);
    const TaskKind kind = json.contains("continuation") ? TaskKind::kLastWord : TaskKind::kChoices;
    if (!task.items.empty() && kind != task.kind)
      throw Error(fmt::format("{}: another kind of item than before", here));
    task.kind = kind;
    task.items.push_back(kind == TaskKind::kLastWord ? last_word_item(json, here)
                                                     : choices_item(json, here));
  }
  return task;
}

int64_t ending_number(std::string_view text, std::string_view where) {
  int64_t number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(fmt::format(
        "{}: '{}' should be the number of the right ending. Known task files: JSON lines with "
        "query, "
        "choices and gold, JSON lines with context and continuation, HellaSwag as six plain lines "
        "per item",
        where, text.substr(0, 40)));
  }
  return number;
}

Task parse_hellaswag(std::string_view text, std::string_view where, int64_t limit) {
  constexpr int kEndings = 4;
  Task task;
  Lines lines(text, where);
  while (!full(task, limit)) {
    const std::optional<std::string_view> context = lines.next();
    if (!context || trimmed(*context).empty()) break;
    TaskItem item{.context = std::string(trimmed(*context)), .continuations = {}};
    item.right = ending_number(lines.demand("the number of the right ending"), lines.here());
    for (int i = 0; i < kEndings; ++i) {
      item.continuations.push_back(continuation_of(lines.demand("an ending"), lines.here()));
    }
    check_right(item, lines.here());
    task.items.push_back(std::move(item));
  }
  return task;
}

}  // namespace

Task parse_task(std::string_view text, std::string_view where, int64_t limit) {
  if (limit < 0) throw Error(fmt::format("{} items cannot be asked; 0 stands for all", limit));
  if (text.starts_with("BZh") || text.starts_with("\x1f\x8b")) {
    throw Error(fmt::format("{}: the file is packed; unpack it first (bunzip2 or gunzip)", where));
  }
  const size_t start = text.find_first_not_of(kBlanks);
  if (start == std::string_view::npos)
    throw Error(fmt::format("{}: the file is empty, a task needs items", where));
  return text[start] == '{' ? parse_json_lines(text, where, limit)
                            : parse_hellaswag(text, where, limit);
}

Task read_task(const std::filesystem::path& path, int64_t limit) {
  const MappedFile file = MappedFile::open(path);
  const std::string_view text = text_view(file.bytes());
  Task task = parse_task(text, path.string(), limit);
  task.name = path.stem().string();
  return task;
}

}  // namespace fewbits
