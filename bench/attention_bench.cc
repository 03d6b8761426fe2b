// Attention of one token over a long context in each format of the cache, one thread.
//
//   attention_bench [--isa NAME] [--keys N] [--heads N] [--dim N] [--group N] [FORMAT[:FORMAT] ...]
//
// --heads counts key/value heads of all layers. Formats take turns, and the best of several turns
// counts, in processor time: other load on the machine only ever makes a turn slower.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <string>
#include <vector>

#include "base/half.h"
#include "engine/kv_cache.h"
#include "kernels/kernel_table.h"

namespace fewbits {
namespace {

constexpr int kTurns = 7;
constexpr uint16_t kSomeHalf = 0x2E66;  // 0.1
constexpr uint8_t kSomeByte = 0x2E;

struct Shape {
  int64_t keys = 4096, heads = 90, dim = 64, group = 3;  // SmolLM2 135M
};

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// All heads of one format.
class Contestant {
 public:
  Contestant(const std::string& name, const Shape& shape)
      : name_(name), shape_(shape), coding_(kv_options(name), shape.dim, shape.dim) {
    const int64_t values = shape.heads * shape.keys * shape.dim;
    const int64_t chunks = shape.heads * shape.keys / kKvChunk;
    if (coded()) {
      key_chunks_.assign(static_cast<size_t>(chunks * coding_.key.chunk_bytes()), kSomeByte);
      value_chunks_.assign(static_cast<size_t>(chunks * coding_.value.chunk_bytes()), kSomeByte);
    } else {
      keys_.assign(static_cast<size_t>(values), kSomeHalf);
      values_ = keys_;
    }
    depth_ = std::max(shape.dim, coding_.key.depth());
    queries_.assign(static_cast<size_t>(shape.group * depth_), 0.1f);
    visible_.assign(static_cast<size_t>(shape.group), shape.keys);
    out_.resize(static_cast<size_t>(shape.group * shape.dim));
    scratch_.resize(static_cast<size_t>(attention_scratch_floats(shape.group, depth_, shape.dim)));
  }

  void take_turn() {
    const double start = processor_seconds();
    for (int64_t head = 0; head < shape_.heads; ++head) attend(head);
    best_ = std::min(best_, processor_seconds() - start);
  }

  void print(double reference) const {
    const double bytes = static_cast<double>(2 * (keys_.size() + values_.size()) +
                                             key_chunks_.size() + value_chunks_.size());
    fmt::print("{:14} {:8.2f} ms  {:6.2f} GB/s  {:5.2f} of the bytes of f16, {:5.2f} of its time\n",
               name_, 1e3 * best_, 1e-9 * bytes / best_,
               bytes / (4.0 * static_cast<double>(shape_.heads * shape_.keys * shape_.dim)),
               best_ / reference);
  }

  double best() const { return best_; }

 private:
  bool coded() const { return coding_.options.coded(); }

  void attend(int64_t head) {
    AttentionTask task{.queries = queries_.data(),
                       .query_stride = depth_,
                       .recent = {nullptr, nullptr, shape_.keys, 0},
                       .visible = visible_.data(),
                       .query_count = shape_.group,
                       .head_dim = shape_.dim,
                       .value_dim = shape_.dim,
                       .out = out_.data(),
                       .scratch = scratch_.data()};
    const int64_t chunk = head * shape_.keys / kKvChunk;
    CodedKeys coded_keys{.key_layout = coding_.key.layout(),
                         .value_layout = coding_.value.layout(),
                         .keys = key_chunks_.data() + chunk * coding_.key.chunk_bytes(),
                         .values = value_chunks_.data() + chunk * coding_.value.chunk_bytes(),
                         .first = 0,
                         .count = shape_.keys,
                         .bias = nullptr};
    if (coded()) {
      task.coded = &coded_keys;
    } else {
      const int64_t offset = head * shape_.keys * shape_.dim;
      task.recent = {keys_.data() + offset, values_.data() + offset};
    }
    kernels().attend(task);
  }

  std::string name_;
  Shape shape_;
  KvCoding coding_;
  int64_t depth_;
  double best_ = std::numeric_limits<double>::infinity();
  std::vector<uint16_t> keys_, values_;
  std::vector<uint8_t> key_chunks_, value_chunks_;
  std::vector<float> queries_, out_, scratch_;
  std::vector<int64_t> visible_;
};

void measure(int argc, char** argv) {
  Shape shape;
  std::vector<std::string> names = {"f16"};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const bool has_value = i + 1 < argc;
    if (name == "--isa" && has_value) {
      setenv("FEWBITS_ISA", argv[++i], 1);
    } else if (name == "--keys" && has_value) {
      shape.keys = std::atoll(argv[++i]) / kKvChunk * kKvChunk;
    } else if (name == "--heads" && has_value) {
      shape.heads = std::atoll(argv[++i]);
    } else if (name == "--dim" && has_value) {
      shape.dim = std::atoll(argv[++i]);
    } else if (name == "--group" && has_value) {
      shape.group = std::atoll(argv[++i]);
    } else {
      names.push_back(name);
    }
  }
  if (names.size() == 1) names = {"f16", "fp8", "q8_0", "q4_0", "turbo4", "turbo3:turbo2"};
  std::vector<Contestant> contestants;
  for (const std::string& name : names) contestants.emplace_back(name, shape);
  for (int turn = 0; turn < kTurns; ++turn) {
    for (Contestant& each : contestants) each.take_turn();
  }
  fmt::print("{}: {} keys, {} heads of {}, {} queries each\n", kernels().name, shape.keys,
             shape.heads, shape.dim, shape.group);
  for (const Contestant& each : contestants) each.print(contestants.front().best());
}

}  // namespace
}  // namespace fewbits

int main(int argc, char** argv) {
  fewbits::measure(argc, argv);
}
