#include "evaluate/sentence_pairs.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <random>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/text.h"
#include "base/text_view.h"
#include "engine/encoder.h"

namespace fewbits {
namespace {

/// One row of a CSV file, from byte `at`, which moves behind it.
std::vector<std::string> read_row(std::string_view text, size_t& at) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"' && quoted && text.substr(at + 1).starts_with('"')) {
      fields.back() += text[++at];
    } else if (c == '"' && (quoted || fields.back().empty())) {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      fields.emplace_back();
    } else if (c == '\n' && !quoted) {
      ++at;
      break;
    } else if (c != '\r' || quoted) {
      fields.back() += c;
    }
  }
  return fields;
}

std::optional<double> number_of(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return std::nullopt;
  }
  return value;
}

/// Ranks from 1 on; equal values share the mean of theirs.
std::vector<double> ranks_of(std::span<const double> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    const double rank = static_cast<double>(begin + 1 + end) / 2;
    for (size_t i = begin; i < end; ++i) ranks[order[i]] = rank;
    begin = end;
  }
  return ranks;
}

double pearson(std::span<const double> a, std::span<const double> b) {
  const auto count = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / count;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / count;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : kUnknown;
}

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;  // both have length 1
  for (size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

using Vectors = std::vector<std::vector<float>>;

/// The vectors of all sentences, two of each pair.
Vectors embed_all(const Model& model, const Evaluation& evaluation, const SentencePairs& pairs,
                  int64_t done) {
  Encoder encoder(model, *evaluation.pool, evaluation.engine_of(model));
  const int64_t models = evaluation.reference != nullptr ? 2 : 1;
  Vectors vectors;
  for (const SentencePair& pair : pairs.pairs) {
    vectors.push_back(encoder.embed(pair.first));
    vectors.push_back(encoder.embed(pair.second));
    if (evaluation.progress) evaluation.progress(++done, models * std::ssize(pairs.pairs));
  }
  return vectors;
}

std::vector<double> cosines_of(const Vectors& vectors) {
  std::vector<double> cosines;
  for (size_t i = 0; i + 1 < vectors.size(); i += 2) {
    cosines.push_back(cosine(vectors[i], vectors[i + 1]));
  }
  return cosines;
}

/// Bounds of the difference of two models' correlations with the same scores: pairs are drawn anew
/// with repetition, always the same ones for both.
Estimate difference_of(std::span<const double> scores, std::span<const double> ours,
                       std::span<const double> theirs) {
  constexpr int kRounds = 1000;
  constexpr uint64_t kSeed = 1;
  Estimate estimate{.value = spearman(ours, scores) - spearman(theirs, scores)};
  std::mt19937_64 source(kSeed);
  const size_t count = scores.size();
  std::vector<double> drawn_scores(count), drawn_ours(count), drawn_theirs(count), differences;
  for (int round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < count; ++i) {
      const size_t pair = source() % count;
      drawn_scores[i] = scores[pair];
      drawn_ours[i] = ours[pair];
      drawn_theirs[i] = theirs[pair];
    }
    const double difference =
        spearman(drawn_ours, drawn_scores) - spearman(drawn_theirs, drawn_scores);
    if (!std::isnan(difference)) differences.push_back(difference);
  }
  if (differences.empty()) return estimate;
  std::ranges::sort(differences);
  estimate.low = quantile(differences, 0.025);
  estimate.high = quantile(differences, 0.975);
  return estimate;
}

PairsComparison compare(std::span<const double> scores, const Vectors& ours,
                        const Vectors& theirs) {
  PairsComparison comparison;
  const auto our_cosines = cosines_of(ours), their_cosines = cosines_of(theirs);
  comparison.reference_spearman =
      spearman_estimate(spearman(their_cosines, scores), std::ssize(scores));
  comparison.difference = difference_of(scores, our_cosines, their_cosines);
  comparison.cosine_min = 1;
  for (size_t i = 0; i < ours.size(); ++i) {
    if (ours[i].size() != theirs[i].size()) {
      comparison.cosine_mean = comparison.cosine_min = kUnknown;
      return comparison;
    }
    const double same = cosine(ours[i], theirs[i]);
    comparison.cosine_mean += same / static_cast<double>(ours.size());
    comparison.cosine_min = std::min(comparison.cosine_min, same);
  }
  return comparison;
}

void add_estimate(const char* name, const Estimate& estimate, Json& json) {
  const auto number = [](double value) { return std::isnan(value) ? Json() : Json(value); };
  json[name] = number(estimate.value);
  json[std::string(name) + "_low"] = number(estimate.low);
  json[std::string(name) + "_high"] = number(estimate.high);
}

}  // namespace

bool is_sentence_pairs(const std::filesystem::path& path) {
  return lower_ascii(path.extension().string()) == ".csv";
}

SentencePairs read_sentence_pairs(const std::filesystem::path& path, int64_t limit) {
  const MappedFile file = MappedFile::open(path);
  const std::string_view text = text_view(file.bytes());
  SentencePairs result{path.stem().string(), {}};
  for (size_t at = 0; at < text.size();) {
    if (limit > 0 && std::ssize(result.pairs) == limit) break;
    const auto fields = read_row(text, at);
    if (fields.size() == 1 && fields[0].empty()) continue;
    const auto score = fields.size() == 3 ? number_of(fields[2]) : std::nullopt;
    if (!score) {
      throw Error(fmt::format("{}: row {} is not sentence, sentence, score", path.string(),
                              result.pairs.size() + 1));
    }
    result.pairs.push_back({fields[0], fields[1], *score});
  }
  constexpr int64_t kFewest = 4;  // below, a correlation has no interval
  if (std::ssize(result.pairs) < kFewest) {
    throw Error(fmt::format("{}: {} sentence pairs; at least {} are needed", path.string(),
                            result.pairs.size(), kFewest));
  }
  return result;
}

PairsResult evaluate_pairs(const Evaluation& evaluation, const SentencePairs& pairs) {
  std::vector<double> scores;
  for (const SentencePair& pair : pairs.pairs) scores.push_back(pair.score);
  const Vectors ours = embed_all(*evaluation.model, evaluation, pairs, 0);
  PairsResult result{pairs.name, std::ssize(pairs.pairs), {}, {}};
  result.spearman = spearman_estimate(spearman(cosines_of(ours), scores), result.items);
  if (evaluation.reference != nullptr) {
    const Vectors theirs = embed_all(*evaluation.reference, evaluation, pairs, result.items);
    result.comparison = compare(scores, ours, theirs);
  }
  return result;
}

double spearman(std::span<const double> a, std::span<const double> b) {
  check(a.size() == b.size());
  return pearson(ranks_of(a), ranks_of(b));
}

Estimate spearman_estimate(double correlation, int64_t items) {
  Estimate estimate{.value = correlation};
  if (items <= 3 || std::isnan(correlation) || std::abs(correlation) >= 1) return estimate;
  constexpr double kNormal = 1.959964;
  const double z = std::atanh(correlation);
  const double error =
      std::sqrt((1 + correlation * correlation / 2) / static_cast<double>(items - 3));
  estimate.low = std::tanh(z - kNormal * error);
  estimate.high = std::tanh(z + kNormal * error);
  return estimate;
}

Json facts_of(const PairsResult& result) {
  Json json = {{"task", result.task}, {"items", result.items}};
  add_estimate("spearman", result.spearman, json);
  if (!result.comparison) return json;
  add_estimate("reference_spearman", result.comparison->reference_spearman, json);
  add_estimate("spearman_difference", result.comparison->difference, json);
  json["cosine_mean"] = result.comparison->cosine_mean;
  json["cosine_min"] = result.comparison->cosine_min;
  return json;
}

}  // namespace fewbits
