#include "files/yaml.h"

#include <fmt/format.h>
#include <yaml.h>

#include <string>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text_view.h"

namespace fewbits {
namespace {

constexpr int kMostDepth = 16;
constexpr size_t kMostBytes = 1 << 20;

class Event {
 public:
  Event() = default;
  ~Event() { yaml_event_delete(&event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  yaml_event_t* get() { return &event_; }
  yaml_event_type_t type() const { return event_.type; }
  size_t line() const { return event_.start_mark.line + 1; }

  std::string text() const {
    const auto& scalar = event_.data.scalar;
    return {reinterpret_cast<const char*>(scalar.value), scalar.length};
  }

  bool has_anchor() const {
    switch (event_.type) {
      case YAML_SCALAR_EVENT:
        return event_.data.scalar.anchor != nullptr;
      case YAML_SEQUENCE_START_EVENT:
        return event_.data.sequence_start.anchor != nullptr;
      case YAML_MAPPING_START_EVENT:
        return event_.data.mapping_start.anchor != nullptr;
      default:
        return event_.type == YAML_ALIAS_EVENT;
    }
  }

 private:
  yaml_event_t event_ = {};
};

class YamlParser {
 public:
  YamlParser(std::string_view text, std::string_view where) : where_(where) {
    if (yaml_parser_initialize(&parser_) == 0) throw std::bad_alloc();
    yaml_parser_set_input_string(&parser_, reinterpret_cast<const unsigned char*>(text.data()),
                                 text.size());
  }
  ~YamlParser() { yaml_parser_delete(&parser_); }
  YamlParser(const YamlParser&) = delete;
  YamlParser& operator=(const YamlParser&) = delete;

  /// Null where there is nothing but comments.
  Json document() {
    Json json;
    skip(YAML_STREAM_START_EVENT);
    Event event;
    next(event);
    if (event.type() == YAML_STREAM_END_EVENT) return json;
    Event first;
    next(first);
    json = value(first, 0);
    skip(YAML_DOCUMENT_END_EVENT);
    skip(YAML_STREAM_END_EVENT);
    return json;
  }

 private:
  void next(Event& event) {
    if (yaml_parser_parse(&parser_, event.get()) == 0) {
      fail(parser_.problem_mark.line + 1, parser_.problem != nullptr ? parser_.problem : "no YAML");
    }
  }

  void skip(yaml_event_type_t type) {
    Event event;
    next(event);
    if (event.type() != type) fail(event.line(), "one document is expected");
  }

  Json value(const Event& event, int depth) {
    if (event.has_anchor()) fail(event.line(), "anchors and aliases are not read");
    if (depth == kMostDepth) fail(event.line(), "it is nested too deeply");
    if (event.type() == YAML_SCALAR_EVENT) return event.text();
    return event.type() == YAML_SEQUENCE_START_EVENT ? list(depth) : mapping(depth);
  }

  Json list(int depth) {
    Json json = Json::array();
    while (true) {
      Event event;
      next(event);
      if (event.type() == YAML_SEQUENCE_END_EVENT) return json;
      json.push_back(value(event, depth + 1));
    }
  }

  Json mapping(int depth) {
    Json json = Json::object();
    while (true) {
      Event key, content;
      next(key);
      if (key.type() == YAML_MAPPING_END_EVENT) return json;
      if (key.type() != YAML_SCALAR_EVENT) fail(key.line(), "a key must be a name");
      if (json.contains(key.text())) {
        fail(key.line(), fmt::format("'{}' comes twice", key.text()));
      }
      next(content);
      json[key.text()] = value(content, depth + 1);
    }
  }

  [[noreturn]] void fail(size_t line, std::string_view what) const {
    throw Error(fmt::format("{}, line {}: {}", where_, line, what));
  }

  std::string_view where_;
  yaml_parser_t parser_ = {};
};

}  // namespace

Json parse_yaml(std::string_view text, std::string_view where) {
  return YamlParser(text, where).document();
}

Json read_yaml_file(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path);
  const auto bytes = file.bytes();
  if (bytes.size() > kMostBytes) {
    throw Error(fmt::format("{}: {} bytes; a file of settings has at most {}", path.string(),
                            bytes.size(), kMostBytes));
  }
  return parse_yaml(text_view(bytes), path.string());
}

}  // namespace fewbits
