#include <algorithm>

#include "base/checked_math.h"
#include "kernels/test_support.h"

namespace fewbits {
namespace {

using Attention = EachTable;
INSTANTIATE_TEST_SUITE_P(Isa, Attention, testing::ValuesIn(usable_tables()), table_name);

struct Inputs {
  int64_t queries, keys, head_dim;
  std::vector<float> query;
  std::vector<uint16_t> key, value;
  std::vector<int64_t> visible;
  int64_t window = INT64_MAX;
  float cap = 0;
};

std::vector<uint16_t> halves_of(const std::vector<float>& values) {
  std::vector<uint16_t> halves;
  for (float value : values) halves.push_back(half_from_float(value));
  return halves;
}

Inputs make_inputs(int64_t queries, int64_t keys, int64_t head_dim) {
  const auto seed = static_cast<uint32_t>(queries * 7919 + keys * 31 + head_dim);
  Inputs in{queries,
            keys,
            head_dim,
            normal_values(queries * head_dim, seed, 0.7f),
            halves_of(normal_values(keys * head_dim, seed + 1)),
            halves_of(normal_values(keys * head_dim, seed + 2)),
            {},
            INT64_MAX,
            0};
  for (int64_t i = 0; i < queries; ++i) in.visible.push_back(1 + (i * 13 + keys - 1) % keys);
  return in;
}

/// As a cache keeps them: 16 keys side by side. What lies behind the last is no number.
std::vector<uint16_t> grouped(const std::vector<uint16_t>& keys, int64_t head_dim) {
  constexpr uint16_t kNoNumber = 0x7E00;
  const int64_t count = std::ssize(keys) / head_dim;
  std::vector<uint16_t> groups(static_cast<size_t>(round_up(count, 16) * head_dim), kNoNumber);
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t d = 0; d < head_dim; ++d) {
      groups[static_cast<size_t>((j / 16 * head_dim + d) * 16 + j % 16)] =
          keys[static_cast<size_t>(j * head_dim + d)];
    }
  }
  return groups;
}

/// Softmax attention of one query in double.
std::vector<double> expected(const Inputs& in, int64_t query) {
  std::vector<double> scores;
  const int64_t visible = in.visible[static_cast<size_t>(query)];
  const int64_t first = visible > in.window ? visible - in.window : 0;
  for (int64_t j = first; j < visible; ++j) {
    double score = 0;
    for (int64_t d = 0; d < in.head_dim; ++d) {
      score += double{in.query[static_cast<size_t>(query * in.head_dim + d)]} *
               half_to_float(in.key[static_cast<size_t>(j * in.head_dim + d)]);
    }
    scores.push_back(in.cap > 0 ? in.cap * std::tanh(score / double{in.cap}) : score);
  }
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (double& score : scores) total += score = std::exp(score - highest);
  std::vector<double> out(static_cast<size_t>(in.head_dim));
  for (size_t j = 0; j < scores.size(); ++j) {
    for (size_t d = 0; d < out.size(); ++d) {
      out[d] += scores[j] / total *
                half_to_float(in.value[(j + static_cast<size_t>(first)) * out.size() + d]);
    }
  }
  return out;
}

void expect_equal(const KernelTable& table, const Inputs& in) {
  const Guarded<float> query(in.query);
  const Guarded<uint16_t> key(grouped(in.key, in.head_dim)), value(in.value);
  const Guarded<int64_t> visible(in.visible);
  Guarded<float> out(in.queries * in.head_dim);
  const int64_t floats = attention_scratch_floats(in.queries, in.head_dim, in.head_dim);
  Guarded<float> scratch(floats);
  std::fill_n(scratch.data(), floats, NAN);
  table.attend({.queries = query.data(),
                .query_stride = in.head_dim,
                .recent = {key.data(), value.data()},
                .visible = visible.data(),
                .query_count = in.queries,
                .head_dim = in.head_dim,
                .value_dim = in.head_dim,
                .out = out.data(),
                .scratch = scratch.data(),
                .window = in.window,
                .cap = in.cap});
  for (int64_t i = 0; i < in.queries; ++i) {
    const auto want = expected(in, i);
    for (int64_t d = 0; d < in.head_dim; ++d) {
      ASSERT_NEAR(out[i * in.head_dim + d], want[static_cast<size_t>(d)], 2e-5)
          << "query " << i << " of " << in.queries << ", keys " << in.keys << ", head_dim "
          << in.head_dim;
    }
  }
}

TEST_P(Attention, EqualsTheDefinition) {
  for (int64_t head_dim : {1, 7, 8, 16, 24, 40, 64, 72, 80, 128, 256}) {
    for (int64_t queries : {1, 2, 3, 4, 7, 12, 17, 40}) {
      for (int64_t keys : {1, 2, 15, 16, 17, 63, 64, 65, 130})
        expect_equal(*GetParam(), make_inputs(queries, keys, head_dim));
    }
  }
}

TEST_P(Attention, SeesAWindowThroughACap) {
  for (const int64_t window : {1, 3, 16, 63, 64, 65, 129}) {
    for (const int64_t keys : {1, 17, 64, 200, 400}) {
      for (const int64_t queries : {3, 13}) {  // few, and in whole panels, go another way
        Inputs in = make_inputs(queries, keys, queries == 3 ? 32 : 24);
        in.window = window;
        expect_equal(*GetParam(), in);
        in.cap = 1.5f;
        expect_equal(*GetParam(), in);
      }
    }
  }
}

TEST_P(Attention, LongContext) {
  for (int64_t keys : {1000, 4096}) expect_equal(*GetParam(), make_inputs(4, keys, 64));
}

TEST_P(Attention, PartsOfTheKeysTellHowToJoinThem) {
  const Inputs in = make_inputs(3, 3 * kKeysPerPart / 2, 64);
  const auto keys = grouped(in.key, in.head_dim);
  std::vector<float> scratch(
      static_cast<size_t>(attention_scratch_floats(in.queries, in.head_dim, in.head_dim)));
  std::vector<std::vector<float>> sums(2);
  std::vector<std::vector<AttentionPart>> parts(2);
  for (size_t p = 0; p < 2; ++p) {
    sums[p].resize(static_cast<size_t>(in.queries * in.head_dim));
    parts[p].resize(static_cast<size_t>(in.queries));
    const auto begin = static_cast<int64_t>(p) * kKeysPerPart;
    GetParam()->attend({.queries = in.query.data(),
                        .query_stride = in.head_dim,
                        .recent = {keys.data(), in.value.data()},
                        .visible = in.visible.data(),
                        .query_count = in.queries,
                        .head_dim = in.head_dim,
                        .value_dim = in.head_dim,
                        .out = sums[p].data(),
                        .scratch = scratch.data(),
                        .begin = begin,
                        .end = begin + kKeysPerPart,
                        .partial = parts[p].data()});
  }
  for (size_t i = 0; i < 3; ++i) {
    const float highest = std::max(parts[0][i].highest, parts[1][i].highest);
    const double weights[] = {std::exp(parts[0][i].highest - highest),
                              std::exp(parts[1][i].highest - highest)};
    const double total = weights[0] * parts[0][i].total + weights[1] * parts[1][i].total;
    const auto want = expected(in, static_cast<int64_t>(i));
    for (size_t d = 0; d < 64; ++d) {
      const double sum = weights[0] * sums[0][i * 64 + d] + weights[1] * sums[1][i * 64 + d];
      ASSERT_NEAR(sum / total, want[d], 2e-5);
    }
  }
}

TEST_P(Attention, QueriesThatSeeOnlyTheFirstKey) {
  Inputs in = make_inputs(9, 200, 32);
  std::fill(in.visible.begin(), in.visible.end() - 1, 1);
  expect_equal(*GetParam(), in);
}

TEST_P(Attention, LargeScoresDoNotOverflow) {
  Inputs in = make_inputs(5, 150, 64);
  for (float& value : in.query) value *= 100;
  expect_equal(*GetParam(), in);
}

}  // namespace
}  // namespace fewbits
