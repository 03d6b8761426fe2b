#include "calibrate/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/text_view.h"
#include "model/chat_prompts.h"

namespace fewbits {
namespace {

void refuse_no_text(std::string_view text, const std::filesystem::path& path) {
  if (text.empty()) throw Error(fmt::format("{}: calibration text: it is empty", path.string()));
  // Texts hold no zeros; models, archives and UTF-16 do.
  if (text.find('\0') == std::string_view::npos) return;
  throw Error(
      fmt::format("{}: calibration text: it is binary (it holds zero bytes); text in UTF-8 "
                  "is expected",
                  path.string()));
}

/// Turns the lines of one file into tokens.
class LineReader {
 public:
  explicit LineReader(const Model& model) : model_(model) {}

  std::vector<Token> tokens(std::string_view line, const std::string& where) {
    const Json document = parse_json(line, where);
    if (document.is_object() && document.contains("messages")) return chat(document["messages"]);
    if (!document.is_object() || !document.contains("text")) {
      throw Error(fmt::format(
          R"({}: a line is {{"text": "..."}} or {{"messages": [{{"role": ..., "content": ...}}]}})",
          where));
    }
    std::vector<Token> tokens = model_.tokenizer.encode(json_string(document, "text", where));
    if (const auto end = model_.tokenizer.eos()) tokens.push_back(*end);
    return tokens;
  }

 private:
  /// The template writes what ends a turn.
  std::vector<Token> chat(const Json& messages) {
    if (!prompts_) prompts_.emplace(model_);
    return prompts_->tokens(messages, ChatPrompts::End::kLastMessage);
  }

  const Model& model_;
  std::optional<ChatPrompts> prompts_;
};

std::vector<Token> read_lines(const Model& model, std::string_view text, const std::string& name) {
  LineReader reader(model);
  std::vector<Token> all;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto tokens = reader.tokens(line, fmt::format("{}: line {}", name, number));
    all.insert(all.end(), tokens.begin(), tokens.end());
  }
  return all;
}

}  // namespace

std::vector<Token> read_documents(const Model& model, const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  const std::string_view text = text_view(file.bytes());
  refuse_no_text(text, path);
  if (path.extension() == ".jsonl") return read_lines(model, text, path.string());
  return model.tokenizer.encode(text);
}

}  // namespace fewbits
