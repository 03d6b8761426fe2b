#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/templates/value.h"

// The memory and the limits of one rendering. A template is a program from a stranger: every loop,
// copy and recursion in this folder passes through here, so that none can hang, fill the memory or
// overflow the stack.
namespace fewbits::templates {

class Runtime {
 public:
  /// Line of the tag that runs now; errors name it.
  int line = 1;

  /// Throws Error with the line.
  [[noreturn]] void fail(std::string_view what) const;

  /// Counts work that makes nothing: a step is about one node of the template or 256 bytes looked
  /// at.
  void spend(int64_t steps = 1);

  /// Counts bytes made. Nothing is given back before the rendering ends.
  void charge(size_t bytes);

  // What values point to. Each lives as long as the Runtime.
  Value text(std::string bytes, bool markup = false);
  Value list(std::vector<Value> items, Series series = Series::list);
  Value dict(Dict dict);
  Value space(Dict fields);
  Value method(const MethodEntry* entry, const Value& self);
  Value macro(const Macro& macro);
  Loop* loop();

  /// The caller's data; strings are not copied, so `json` must outlive the Runtime.
  Value from_json(const Json& json);

  /// One level of recursion; refuses one too many.
  class Level {
   public:
    explicit Level(Runtime& runtime);
    ~Level() { --runtime_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Runtime& runtime_;
  };

 private:
  Value list_from_json(const Json& json);
  Value dict_from_json(const Json& json);

  int depth_ = 0;
  int64_t steps_ = 0;
  size_t bytes_ = 0;
  std::deque<std::string> texts_;
  std::deque<List> lists_;
  std::deque<Dict> dicts_;
  std::deque<Namespace> spaces_;
  std::deque<Method> methods_;
  std::deque<Macro> macros_;
  std::deque<Loop> loops_;
};

/// A string that grows under the Runtime's limit.
class Writer {
 public:
  explicit Writer(Runtime& runtime) : runtime_(runtime) {}

  void add(std::string_view piece) {
    runtime_.charge(piece.size());
    text_ += piece;
  }
  std::string take() { return std::move(text_); }

 private:
  Runtime& runtime_;
  std::string text_;
};

}  // namespace fewbits::templates
