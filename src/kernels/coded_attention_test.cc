#include <algorithm>

#include "base/error.h"
#include "kernels/kv_codec.h"
#include "kernels/test_support.h"

namespace fewbits {
namespace {

using CodedAttention = EachTable;
INSTANTIATE_TEST_SUITE_P(Isa, CodedAttention, testing::ValuesIn(usable_tables()), table_name);

constexpr int64_t kOldest = 5, kRecent = 20;

/// Tokens in all three places, and what the coded ones decode to.
struct Scene {
  Scene(std::string_view key_format, std::string_view value_format, int64_t dim, int64_t chunks)
      : dim(dim),
        coded(chunks * kKvChunk),
        key_codec(kv_format_named(key_format), KvRole::kKey, dim),
        value_codec(kv_format_named(value_format), KvRole::kValue, dim),
        key_chunks(static_cast<size_t>(chunks * key_codec.chunk_bytes())),
        value_chunks(static_cast<size_t>(chunks * value_codec.chunk_bytes())) {
    const int64_t count = kOldest + coded + kRecent;
    keys = normal_values(count * dim, 1);
    values = normal_values(count * dim, 2);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t first = (kOldest + chunk * kKvChunk) * dim;
      key_codec.encode(keys.data() + first, key_chunks.data() + chunk * key_codec.chunk_bytes());
      value_codec.encode(values.data() + first,
                         value_chunks.data() + chunk * value_codec.chunk_bytes());
    }
    decode(chunks);
  }

  /// By the last table, the scalar one.
  void decode(int64_t chunks) {
    const KernelTable& table = *usable_tables().back();
    const int64_t depth = key_codec.depth(), width = value_codec.depth();
    decoded_keys.resize(static_cast<size_t>(coded * depth));
    decoded_values.resize(static_cast<size_t>(coded * dim));
    std::vector<float> raw(static_cast<size_t>(kKvChunk * std::max(depth, width)));
    for (int64_t i = 0; i < coded; ++i) {
      const int64_t chunk = i / kKvChunk, t = i % kKvChunk;
      table.decode_keys(key_codec.layout(), key_chunks.data() + chunk * key_codec.chunk_bytes(),
                        raw.data(), 16 * depth);
      for (int64_t d = 0; d < depth; ++d) {
        decoded_keys[static_cast<size_t>(i * depth + d)] =
            raw[static_cast<size_t>((t / 16 * depth + d) * 16 + t % 16)];
      }
      table.decode_values(value_codec.layout(),
                          value_chunks.data() + chunk * value_codec.chunk_bytes(), width,
                          {raw.data(), 16 * kKvChunk});
      for (int64_t d = 0; d < dim; ++d) {
        decoded_values[static_cast<size_t>(i * dim + d)] =
            raw[static_cast<size_t>((d / 16 * kKvChunk + t) * 16 + d % 16)];
      }
    }
    check(chunks * kKvChunk == coded);
  }

  bool is_coded(int64_t position) const {
    return position >= kOldest && position < kOldest + coded;
  }

  double score(const float* query, int64_t position) const {
    double sum = 0;
    if (is_coded(position)) {
      const int64_t depth = key_codec.depth();
      const float* key = decoded_keys.data() + (position - kOldest) * depth;
      for (int64_t d = 0; d < depth; ++d) sum += double{query[d]} * double{key[d]};
      return sum;
    }
    for (int64_t d = 0; d < dim; ++d) {
      sum += double{query[d]} *
             half_to_float(half_from_float(keys[static_cast<size_t>(position * dim + d)]));
    }
    return sum;
  }

  double value(int64_t position, int64_t d) const {
    if (is_coded(position)) {
      return double{decoded_values[static_cast<size_t>((position - kOldest) * dim + d)]};
    }
    return half_to_float(half_from_float(values[static_cast<size_t>(position * dim + d)]));
  }

  int64_t dim, coded;
  KvCodec key_codec, value_codec;
  std::vector<uint8_t> key_chunks, value_chunks;
  std::vector<float> keys, values, decoded_keys, decoded_values;
};

/// Halves of some tokens as a cache keeps them.
struct Halves {
  Halves(const Scene& scene, int64_t first, int64_t count)
      : keys(static_cast<size_t>((count + 15) / 16 * 16 * scene.dim)),
        values(static_cast<size_t>(count * scene.dim)) {
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t d = 0; d < scene.dim; ++d) {
        const auto from = static_cast<size_t>((first + j) * scene.dim + d);
        keys[static_cast<size_t>((j / 16 * scene.dim + d) * 16 + j % 16)] =
            half_from_float(scene.keys[from]);
        values[static_cast<size_t>(j * scene.dim + d)] = half_from_float(scene.values[from]);
      }
    }
  }
  std::vector<uint16_t> keys, values;
};

struct Case {
  int64_t queries;
  int64_t window = INT64_MAX;
  float cap = 0;
};

void expect_equal(const KernelTable& table, const Scene& scene, const Case& of) {
  const int64_t dim = scene.dim, depth = std::max(dim, scene.key_codec.depth());
  const int64_t count = kOldest + scene.coded + kRecent;
  std::vector<float> queries(static_cast<size_t>(of.queries * depth)), bias;
  std::vector<int64_t> visible;
  for (int64_t i = 0; i < of.queries; ++i) {
    const auto query = normal_values(dim, 50 + static_cast<uint32_t>(i), 0.15f);
    std::copy(query.begin(), query.end(), queries.begin() + i * depth);
    scene.key_codec.extend_query(queries.data() + i * depth);
    bias.push_back(0.1f * static_cast<float>(i));
    visible.push_back(count - i % 3);
  }
  const Halves oldest(scene, 0, kOldest), recent(scene, kOldest + scene.coded, kRecent);
  const HalfKeys oldest_keys{oldest.keys.data(), oldest.values.data(), 0, kOldest};
  const Guarded<uint8_t> key_chunks(scene.key_chunks), value_chunks(scene.value_chunks);
  const CodedKeys coded{.key_layout = scene.key_codec.layout(),
                        .value_layout = scene.value_codec.layout(),
                        .keys = key_chunks.data(),
                        .values = value_chunks.data(),
                        .first = kOldest,
                        .count = scene.coded,
                        .bias = bias.data()};
  Guarded<float> out(of.queries * dim);
  const int64_t floats = attention_scratch_floats(of.queries, depth, dim);
  Guarded<float> scratch(floats);
  std::fill_n(scratch.data(), floats, NAN);
  table.attend({.queries = queries.data(),
                .query_stride = depth,
                .recent = {recent.keys.data(), recent.values.data(), kOldest + scene.coded},
                .oldest = &oldest_keys,
                .coded = &coded,
                .visible = visible.data(),
                .query_count = of.queries,
                .head_dim = dim,
                .value_dim = dim,
                .out = out.data(),
                .scratch = scratch.data(),
                .window = of.window,
                .cap = of.cap});
  for (int64_t i = 0; i < of.queries; ++i) {
    const int64_t end = visible[static_cast<size_t>(i)];
    std::vector<double> want(static_cast<size_t>(dim));
    double total = 0;
    for (int64_t j = end > of.window ? end - of.window : 0; j < end; ++j) {
      double score = scene.score(queries.data() + i * depth, j);
      if (scene.is_coded(j)) score += double{bias[static_cast<size_t>(i)]};
      if (of.cap > 0) score = double{of.cap} * std::tanh(score / double{of.cap});
      total += std::exp(score);
      for (int64_t d = 0; d < dim; ++d) {
        want[static_cast<size_t>(d)] += std::exp(score) * scene.value(j, d);
      }
    }
    for (int64_t d = 0; d < dim; ++d) {
      ASSERT_NEAR(out[i * dim + d], want[static_cast<size_t>(d)] / total, 3e-5)
          << scene.key_codec.format().name << ", " << scene.value_codec.format().name
          << ", queries " << of.queries << ", head of " << dim;
    }
  }
}

TEST_P(CodedAttention, EveryFormatEqualsTheDefinition) {
  for (const KvFormat& format : kv_formats()) {
    for (const int64_t dim : {24, 64, 80, 96}) {
      const Scene scene(format.name, format.for_values ? format.name : "q8_0", dim, 3);
      for (const int64_t queries : {1, 3, 4, 7, 9}) {
        expect_equal(*GetParam(), scene, {queries});
      }
    }
  }
}

TEST_P(CodedAttention, SeesAWindowThroughACap) {
  const Scene scene("turbo3", "q4_0", 64, 4);
  for (const int64_t window : {1, 21, 40, 100, 150}) {
    for (const int64_t queries : {2, 13}) {
      expect_equal(*GetParam(), scene, {queries, window});
      expect_equal(*GetParam(), scene, {queries, window, 1.5f});
    }
  }
}

}  // namespace
}  // namespace fewbits
