#include "model/templates/runtime.h"

#include <fmt/format.h>

#include "base/error.h"

namespace fewbits::templates {
namespace {

// The templates of 70 models take less than 5000 steps for a few messages with tools.
constexpr int64_t kMaxSteps = 5'000'000;
constexpr size_t kMaxBytes = size_t{256} << 20;
// A level takes 1 KB of stack, under sanitizers 2 KB; main threads have 8 MB, others may have 1 MB.
constexpr int kMaxDepth = 500;

}  // namespace

void Runtime::fail(std::string_view what) const {
  throw Error(fmt::format("chat template, line {}: {}", line, what));
}

void Runtime::spend(int64_t steps) {
  steps_ += steps;
  if (steps_ > kMaxSteps) fail(fmt::format("more than {} steps", kMaxSteps));
}

void Runtime::charge(size_t bytes) {
  spend(static_cast<int64_t>(bytes / 256));
  if (bytes > kMaxBytes - bytes_) fail(fmt::format("makes more than {} MiB", kMaxBytes >> 20));
  bytes_ += bytes;
}

Value Runtime::text(std::string bytes, bool markup) {
  charge(sizeof(std::string) + bytes.size());
  return Text{&texts_.emplace_back(std::move(bytes)), markup};
}

Value Runtime::list(std::vector<Value> items, Series series) {
  charge(sizeof(List) + items.size() * sizeof(Value));
  return &std::as_const(lists_.emplace_back(List{std::move(items), series}));
}

Value Runtime::dict(Dict dict) {
  charge(sizeof(Dict) + dict.entries.size() * 2 * sizeof(Value));
  return &std::as_const(dicts_.emplace_back(std::move(dict)));
}

Value Runtime::space(Dict fields) {
  charge(sizeof(Namespace) + fields.entries.size() * 2 * sizeof(Value));
  return &spaces_.emplace_back(Namespace{std::move(fields)});
}

Value Runtime::method(const MethodEntry* entry, const Value& self) {
  charge(sizeof(Method));
  return &std::as_const(methods_.emplace_back(Method{entry, self}));
}

Value Runtime::macro(const Macro& macro) {
  charge(sizeof(Macro));
  return &std::as_const(macros_.emplace_back(macro));
}

Loop* Runtime::loop() {
  charge(sizeof(Loop));
  return &loops_.emplace_back();
}

Value Runtime::from_json(const Json& json) {
  const Level level(*this);
  switch (json.type()) {
    case Json::value_t::null:
      return None{};
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<int64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return Text{json.get_ptr<const std::string*>()};
    case Json::value_t::array:
      return list_from_json(json);
    case Json::value_t::object:
      return dict_from_json(json);
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > INT64_MAX) fail("a number of the context is above 2^63");
      return json.get<int64_t>();
    default:
      fail("the context holds binary data");
  }
}

Value Runtime::list_from_json(const Json& json) {
  std::vector<Value> items;
  items.reserve(json.size());
  for (const Json& item : json) items.push_back(from_json(item));
  return list(std::move(items));
}

Value Runtime::dict_from_json(const Json& json) {
  Dict result;
  result.entries.reserve(json.size());
  for (auto item = json.begin(); item != json.end(); ++item) {
    result.entries.emplace_back(Text{&item.key()}, from_json(item.value()));
  }
  return dict(std::move(result));
}

Runtime::Level::Level(Runtime& runtime) : runtime_(runtime) {
  if (++runtime_.depth_ > kMaxDepth) {
    --runtime_.depth_;
    runtime_.fail(fmt::format("nested deeper than {}", kMaxDepth));
  }
}

}  // namespace fewbits::templates
