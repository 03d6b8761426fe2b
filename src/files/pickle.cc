#include "files/pickle.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "base/checked_math.h"
#include "files/byte_reader.h"
#include "files/errors.h"

namespace fewbits {
namespace {

/// What a pickle puts together. Objects refer to each other by index, so that nothing is copied
/// and nothing is freed twice, however they are nested.
struct Object {
  enum class Kind { kMark, kOther, kInteger, kText, kList, kDict, kGlobal, kStorage, kTensor };
  Kind kind = Kind::kOther;
  int64_t integer = 0;              ///< kInteger; kTensor: its number
  std::string text = {};            ///< kText; kGlobal: "module name"; kStorage: its key
  std::string type = {};            ///< kStorage
  std::vector<int32_t> items = {};  ///< kList (and tuples); kDict: key, value, key, value, ..
};

using Kind = Object::Kind;
using Index = int32_t;

constexpr std::string_view kTorchPrefix = "torch ";
constexpr std::array<std::string_view, 12> kStorages = {
    "torch FloatStorage", "torch HalfStorage", "torch BFloat16Storage",      "torch DoubleStorage",
    "torch LongStorage",  "torch IntStorage",  "torch ShortStorage",         "torch CharStorage",
    "torch ByteStorage",  "torch BoolStorage", "torch Float8_e4m3fnStorage", "torch UntypedStorage",
};
constexpr std::string_view kRebuildTensor = "torch._utils _rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils _rebuild_parameter";
constexpr std::string_view kOrderedDict = "collections OrderedDict";

bool is_known(std::string_view global) {
  return global == kRebuildTensor || global == kRebuildParameter || global == kOrderedDict ||
         std::ranges::find(kStorages, global) != kStorages.end();
}

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, std::string_view where)
      : where_(where), reader_(bytes, OnEnd{where}) {}

  std::vector<PickledTensor> run() {
    while (step(reader_.template read<uint8_t>())) {
    }
    return tensors_of(state_dict(pop()));
  }

 private:
  struct OnEnd {
    std::string_view where;
    [[noreturn]] void operator()(uint64_t needed) const {
      throw Error(fmt::format("{}: the pickle ends {} bytes too early", where, needed));
    }
  };

  template <class... Parts>
  [[noreturn]] void fail(fmt::format_string<Parts...> text, Parts&&... parts) const {
    throw Error(
        fmt::format("{}: pickle: {}", where_, fmt::format(text, std::forward<Parts>(parts)...)));
  }

  /// One opcode; false for the last.
  bool step(uint8_t code) {
    return constant(code) || collection(code) || memory(code) || act(code);
  }

  /// Numbers, texts, None and the like.
  bool constant(uint8_t code) {
    switch (code) {
      case 'N':   // NONE
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push({.kind = Kind::kOther});
        return true;
      case 'G':  // BINFLOAT
        reader_.take(8);
        push({.kind = Kind::kOther});
        return true;
      case 'J':  // BININT
        push_integer(reader_.template read<int32_t>());
        return true;
      case 'K':  // BININT1
        push_integer(reader_.template read<uint8_t>());
        return true;
      case 'M':  // BININT2
        push_integer(reader_.template read<uint16_t>());
        return true;
      case 0x8A:  // LONG1
        push_integer(read_long());
        return true;
      case 'X':  // BINUNICODE
        push_text(text(reader_.template read<uint32_t>()));
        return true;
      case 0x8C:  // SHORT_BINUNICODE
        push_text(text(reader_.template read<uint8_t>()));
        return true;
      default:
        return false;
    }
  }

  /// Lists, tuples and dicts.
  bool collection(uint8_t code) {
    switch (code) {
      case '(':  // MARK
        push({.kind = Kind::kMark});
        return true;
      case ']':  // EMPTY_LIST
      case ')':  // EMPTY_TUPLE
        push({.kind = Kind::kList});
        return true;
      case '}':  // EMPTY_DICT
        push({.kind = Kind::kDict});
        return true;
      case 't':  // TUPLE
        push_list(since_mark());
        return true;
      case 0x85:  // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87:
        push_list(pop_many(code - 0x84U));
        return true;
      case 'a':  // APPEND
        extend(Kind::kList, pop_many(1));
        return true;
      case 'e':  // APPENDS
        extend(Kind::kList, since_mark());
        return true;
      case 's':  // SETITEM
        extend(Kind::kDict, pop_many(2));
        return true;
      case 'u':  // SETITEMS
        extend(Kind::kDict, since_mark());
        return true;
      default:
        return false;
    }
  }

  /// What was built before, by number.
  bool memory(uint8_t code) {
    switch (code) {
      case 'q':  // BINPUT
        memo_[reader_.template read<uint8_t>()] = top();
        return true;
      case 'r':  // LONG_BINPUT
        memo_[reader_.template read<uint32_t>()] = top();
        return true;
      case 0x94:  // MEMOIZE
        memo_[static_cast<uint32_t>(memo_.size())] = top();
        return true;
      case 'h':  // BINGET
        recall(reader_.template read<uint8_t>());
        return true;
      case 'j':  // LONG_BINGET
        recall(reader_.template read<uint32_t>());
        return true;
      case 0x80:  // PROTO
        reader_.take(1);
        return true;
      case 0x95:  // FRAME
        reader_.take(8);
        return true;
      default:
        return false;
    }
  }

  bool act(uint8_t code) {
    switch (code) {
      case 'c': {  // GLOBAL
        const std::string module = line();
        push_global(module, line());
        return true;
      }
      case 0x93: {  // STACK_GLOBAL
        const std::string name = need(pop(), Kind::kText).text;
        push_global(need(pop(), Kind::kText).text, name);
        return true;
      }
      case 'Q':  // BINPERSID
        push_storage(need(pop(), Kind::kList));
        return true;
      case 'R': {  // REDUCE
        const Index arguments = pop();
        call(need(pop(), Kind::kGlobal).text, need(arguments, Kind::kList));
        return true;
      }
      case 'b':  // BUILD: attributes of an object, such as the versions of a state dict
        pop();
        return true;
      case '.':  // STOP
        return false;
      default:
        fail("opcode 0x{:02x} is not one that a state dict needs", code);
    }
  }

  void push(Object object) {
    if (objects_.size() >= kMostObjects) fail("more than {} objects", kMostObjects);
    stack_.push_back(static_cast<Index>(objects_.size()));
    objects_.push_back(std::move(object));
  }
  void push_integer(int64_t value) { push({.kind = Kind::kInteger, .integer = value}); }
  void push_text(std::string text) { push({.kind = Kind::kText, .text = std::move(text)}); }
  void push_list(std::vector<Index> items) {
    push({.kind = Kind::kList, .items = std::move(items)});
  }

  Index top() const {
    if (stack_.empty()) fail("the stack is empty");
    return stack_.back();
  }
  Index pop() {
    const Index index = top();
    stack_.pop_back();
    return index;
  }

  std::vector<Index> pop_many(size_t count) {
    if (stack_.size() < count)
      fail("the stack has {} objects, {} are needed", stack_.size(), count);
    std::vector<Index> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }

  std::vector<Index> since_mark() {
    size_t count = 0;
    while (count < stack_.size() && at(stack_[stack_.size() - 1 - count]).kind != Kind::kMark) {
      ++count;
    }
    if (count == stack_.size()) fail("a mark is missing");
    std::vector<Index> items = pop_many(count);
    stack_.pop_back();
    return items;
  }

  Object& at(Index index) { return objects_[static_cast<size_t>(index)]; }

  Object& need(Index index, Kind kind) {
    if (at(index).kind != kind) fail("an object is of another kind than its use asks for");
    return at(index);
  }

  void extend(Kind kind, const std::vector<Index>& items) {
    if (kind == Kind::kDict && items.size() % 2 != 0) fail("a key has no value");
    auto& target = need(top(), kind).items;
    target.insert(target.end(), items.begin(), items.end());
  }

  void recall(uint32_t number) {
    const auto found = memo_.find(number);
    if (found == memo_.end()) fail("object {} was never built", number);
    stack_.push_back(found->second);
  }

  std::string text(uint64_t size) {
    const auto bytes = reader_.take(size);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::string line() {
    std::string text;
    for (char c; (c = static_cast<char>(reader_.template read<uint8_t>())) != '\n';) text += c;
    return text;
  }

  int64_t read_long() {
    const auto bytes = reader_.take(reader_.template read<uint8_t>());
    if (bytes.size() > sizeof(int64_t)) fail("a number has {} bytes", bytes.size());
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size(); ++i) value |= static_cast<uint64_t>(bytes[i]) << (8 * i);
    const bool negative = !bytes.empty() && (static_cast<uint8_t>(bytes.back()) & 0x80) != 0;
    if (negative && bytes.size() < sizeof value) value |= ~uint64_t{0} << (8 * bytes.size());
    return static_cast<int64_t>(value);
  }

  void push_global(const std::string& module, const std::string& name) {
    const std::string global = module + ' ' + name;
    if (!is_known(global)) {
      fail("names {}, which is not needed for tensors and could be anybody's code",
           quote_name(module + '.' + name));
    }
    push({.kind = Kind::kGlobal, .text = global});
  }

  /// ("storage", type, key, device, values)
  void push_storage(const Object& id) {
    if (id.items.size() < 5 || need(id.items[0], Kind::kText).text != "storage") {
      fail("a persistent id is no storage");
    }
    const std::string type = need(id.items[1], Kind::kGlobal).text;
    if (!type.starts_with(kTorchPrefix)) fail("a storage has the type {}", quote_name(type));
    push({.kind = Kind::kStorage,
          .text = std::string(need(id.items[2], Kind::kText).text),
          .type = type.substr(kTorchPrefix.size())});
  }

  void call(const std::string& global, const Object& arguments) {
    if (global == kOrderedDict) return push({.kind = Kind::kDict});
    if (arguments.items.empty()) fail("a tensor is put together from nothing");
    if (global == kRebuildParameter) {
      const Index tensor = arguments.items[0];
      need(tensor, Kind::kTensor);
      return stack_.push_back(tensor);
    }
    if (global != kRebuildTensor) fail("a storage type is called");
    push_tensor(arguments);
  }

  /// (storage, offset, sizes, strides, ..)
  void push_tensor(const Object& arguments) {
    if (arguments.items.size() < 4) fail("a tensor lacks its sizes");
    const Object& storage = need(arguments.items[0], Kind::kStorage);
    PickledTensor tensor{.name = {},
                         .storage = storage.text,
                         .value_type = storage.type,
                         .offset = need(arguments.items[1], Kind::kInteger).integer,
                         .shape = integers(arguments.items[2])};
    const Shape strides = integers(arguments.items[3]);
    if (tensor.offset < 0 || strides.size() != tensor.shape.size()) fail("a tensor is broken");
    std::optional<int64_t> stride = 1;
    for (size_t i = strides.size(); i-- > 0;) {
      if (tensor.shape[i] < 0) fail("a tensor has a negative size");
      if (tensor.shape[i] > 1 && (!stride || strides[i] != *stride)) {
        fail("a tensor does not lie in its storage row by row; save it with .contiguous()");
      }
      stride = stride ? checked_multiply(*stride, tensor.shape[i]) : stride;
    }
    push({.kind = Kind::kTensor, .integer = std::ssize(made_)});
    made_.push_back(std::move(tensor));
  }

  Shape integers(Index list) {
    Shape values;
    for (const Index item : need(list, Kind::kList).items) {
      values.push_back(need(item, Kind::kInteger).integer);
    }
    return values;
  }

  Index value_of(Index dict, std::string_view key) {
    const auto& items = at(dict).items;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const Object& name = at(items[i]);
      if (name.kind == Kind::kText && name.text == key) return items[i + 1];
    }
    return -1;
  }

  Index state_dict(Index root) {
    need(root, Kind::kDict);
    for (const char* key : {"state_dict", "model"}) {
      const Index inner = value_of(root, key);
      if (inner >= 0 && at(inner).kind == Kind::kDict) return inner;
    }
    return root;
  }

  std::vector<PickledTensor> tensors_of(Index dict) {
    std::vector<PickledTensor> tensors;
    const auto& items = at(dict).items;
    for (size_t i = 0; i + 1 < items.size(); i += 2) {
      const Object& name = at(items[i]);
      const Object& value = at(items[i + 1]);
      if (name.kind != Kind::kText || value.kind != Kind::kTensor) continue;
      tensors.push_back(made_[static_cast<size_t>(value.integer)]);
      tensors.back().name = name.text;
    }
    return tensors;
  }

  // A tensor takes some 25 objects of a hundred bytes.
  static constexpr size_t kMostObjects = 2'000'000;

  std::string_view where_;
  ByteReader<OnEnd> reader_;
  std::vector<Object> objects_;
  std::vector<PickledTensor> made_;
  std::vector<Index> stack_;
  std::unordered_map<uint32_t, Index> memo_;
};

}  // namespace

std::vector<PickledTensor> read_pickle(std::span<const std::byte> bytes, std::string_view where) {
  return Machine(bytes, where).run();
}

}  // namespace fewbits
