#include "model/templates/loop.h"

#include "model/templates/methods.h"

namespace fewbits::templates {
namespace {

/// Looks `count` items ahead; false where there are fewer.
bool look_ahead(Runtime& runtime, Loop& loop, size_t count) {
  Value item;
  while (loop.ahead.size() < count && loop.next(item)) {
    runtime.charge(sizeof(Value));
    loop.ahead.push_back(item);
  }
  return loop.ahead.size() >= count;
}

int64_t loop_length(Runtime& runtime, Loop& loop) {
  if (loop.known_length < 0) {
    look_ahead(runtime, loop, SIZE_MAX);
    loop.known_length = loop.index0 + 1 + static_cast<int64_t>(loop.ahead.size());
  }
  return loop.known_length;
}

}  // namespace

bool advance(Loop& loop) {
  Value item;
  if (!loop.ahead.empty()) {
    item = loop.ahead.front();
    loop.ahead.pop_front();
  } else if (!loop.next(item)) {
    return false;
  }
  ++loop.index0;
  loop.before = loop.current;
  loop.current = item;
  return true;
}

std::optional<Value> loop_field(Runtime& runtime, Loop& loop, std::string_view name) {
  if (name == "index") return loop.index0 + 1;
  if (name == "index0") return loop.index0;
  if (name == "first") return loop.index0 == 0;
  if (name == "last") return !look_ahead(runtime, loop, 1);
  if (name == "length") return loop_length(runtime, loop);
  if (name == "revindex") return loop_length(runtime, loop) - loop.index0;
  if (name == "revindex0") return loop_length(runtime, loop) - loop.index0 - 1;
  if (name == "depth") return int64_t{1};
  if (name == "depth0") return int64_t{0};
  if (name == "previtem") return loop.index0 == 0 ? Value(Undefined{"loop.previtem"}) : loop.before;
  if (name == "nextitem") {
    return look_ahead(runtime, loop, 1) ? loop.ahead.front() : Undefined{"loop.nextitem"};
  }
  return find_method(runtime, &loop, name);
}

}  // namespace fewbits::templates
