#include "pipeline/calibrated_experts.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>

#include "base/checked_math.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/text.h"
#include "calibrate/importance.h"
#include "calibrate/sites.h"
#include "pipeline/calibration_options.h"
#include "pipeline/rounding_error.h"

namespace fewbits {
namespace {

constexpr int64_t kMostMomentBytes = int64_t{256} << 20;

/// In the order in which they are computed; each is fitted behind those before.
constexpr Role kSites[] = {Role::kExpertGate, Role::kExpertDown, Role::kSharedGate,
                           Role::kSharedDown};

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

int64_t experts_in(const Weight& weight) {
  return weight.shape.size() > 2 ? weight.shape.front() : 1;
}

int64_t rows_of_one(const Weight& weight) {
  return weight.rows() / experts_in(weight);
}

PackedMatrix& matrix_of(ExpertWeights& experts, Role role, int64_t expert) {
  switch (role) {
    case Role::kExpertGate:
      return experts.gate[at(expert)];
    case Role::kExpertUp:
      return experts.up[at(expert)];
    case Role::kExpertDown:
      return experts.down[at(expert)];
    case Role::kSharedGate:
      return experts.shared_gate;
    case Role::kSharedUp:
      return experts.shared_up;
    default:
      check(role == Role::kSharedDown);
      return experts.shared_down;
  }
}

}  // namespace

int64_t experts_at_once(int64_t columns) {
  const int64_t bytes = columns * columns * static_cast<int64_t>(sizeof(float));
  return std::max<int64_t>(1, kMostMomentBytes / bytes);
}

/// What all rows of a tensor share is for whole tensors to decide.
const Format* CalibratedExperts::rounded_format(const Weight& weight) const {
  const Format* format = formats_.at(&weight);
  const bool fits = weight.is_matrix() && !format->is_float() && format->can_encode() &&
                    format->fit_tensor == nullptr && weight.gguf_rows.empty();
  return fits && format != &weight.format() ? format : nullptr;
}

std::vector<const Weight*> CalibratedExperts::rounded_readers(Role site, int64_t layer) const {
  std::vector<const Weight*> weights;
  for (const Role role : readers_of(site)) {
    const Weight* weight = model_.find(role, layer);
    if (weight != nullptr && rounded_format(*weight) != nullptr) weights.push_back(weight);
  }
  return weights;
}

void CalibratedExperts::encode_layer(int64_t layer, SampleStreams& streams, LayerWeights& weights) {
  encoded_.clear();
  for (const Role site : kSites) encode_site(site, layer, streams, weights);
}

void CalibratedExperts::encode_site(Role site, int64_t layer, SampleStreams& streams,
                                    LayerWeights& weights) {
  const std::vector<const Weight*> readers = rounded_readers(site, layer);
  if (readers.empty()) return;
  const int64_t columns = readers.front()->columns(), experts = experts_in(*readers.front());
  for (const Weight* weight : readers) {
    const int64_t row_size = row_bytes(*rounded_format(*weight), columns);
    encoded_[weight].bytes.resize(at(weight->rows() * row_size));
  }
  const int64_t step = experts_at_once(columns);
  for (int64_t first = 0; first < experts; first += step) {
    ExpertMoments moments = streams.gather_experts(
        site, columns, {first, std::min(step, experts - first), experts}, weights);
    for (int64_t i = 0; i < std::ssize(moments.grams); ++i) {
      std::optional<Hessian> hessian;
      HessianOptions options = options_.hessian;
      options.tokens = moments.tokens[at(first + i)];
      if (options.tokens >= kEnoughTokens) {
        hessian = factor_hessian(std::move(moments.grams[at(i)]), columns, pool_, options);
      }
      for (const Weight* weight : readers) {
        encode_expert(*weight, first + i, moments, hessian ? &*hessian : nullptr);
      }
    }
    if (first + step < experts) continue;
    for (const Weight* weight : readers) warn_of_starved(*weight, moments);
  }
  for (const Weight* weight : readers) {
    Encoded& encoded = encoded_.at(weight);
    encoded.rounded.bytes = encoded.bytes;
    replace(*weight, weights);
    weight->drop_pages();
    const double square = encoded.rounded.square;
    if (options_.progress)
      options_.progress(*weight, square > 0 ? encoded.rounded.error / square : 0);
  }
}

void CalibratedExperts::encode_expert(const Weight& weight, int64_t expert,
                                      const ExpertMoments& moments, const Hessian* hessian) {
  const Format& format = *rounded_format(weight);
  const int64_t columns = weight.columns(), all_rows = rows_of_one(weight);
  const int64_t row_size = row_bytes(format, columns);
  Encoded& encoded = encoded_.at(&weight);
  const int64_t at_once = rows_rounded_at_once(all_rows, columns);
  std::vector<RoundingError> parts(at(divide_up(all_rows, at_once)));
  pool_.run(std::ssize(parts), [&](int64_t task, int thread) {
    if (interrupted()) return;
    if (thread == 0 && options_.progress) options_.progress(weight, -1);
    const int64_t first = expert * all_rows + task * at_once;
    const int64_t rows = std::min(at_once, (expert + 1) * all_rows - first);
    std::vector<float> values(at(rows * columns)), decoded(values.size());
    for (int64_t i = 0; i < rows; ++i) weight.read_row(first + i, values.data() + i * columns);
    std::byte* out = encoded.bytes.data() + first * row_size;
    if (hessian != nullptr) {
      const Outer outer;
      round_rows({format, *hessian, options_.gptq, &outer}, values.data(), rows, out);
    } else {
      encode_rows(format, values.data(), rows, columns, moments.means.data(), Search::kBest, out);
    }
    decode_rows(format, out, rows, columns, decoded.data());
    parts[at(task)] = rounding_error(values, decoded);
  });
  throw_if_interrupted();
  for (const RoundingError& part : parts) {  // in order: the same total for any thread count
    encoded.rounded.error += part.error;
    encoded.rounded.square += part.square;
  }
}

void CalibratedExperts::warn_of_starved(const Weight& weight, const ExpertMoments& moments) {
  std::vector<std::string> starved;
  for (size_t i = 0; i < moments.tokens.size(); ++i) {
    if (moments.tokens[i] < kEnoughTokens) {
      starved.push_back(fmt::format("{} ({})", i, moments.tokens[i]));
    }
  }
  if (starved.empty()) return;
  warnings_.push_back(fmt::format(
      "{}: rounded to nearest where too few tokens of the text came, expert (tokens): {}; more "
      "text, of more kinds, would reach them",
      weight.gguf_name, join(starved)));
}

void CalibratedExperts::restore_layer(int64_t layer, const RoundedBefore& before,
                                      LayerWeights& weights) {
  encoded_.clear();
  for (const Role site : kSites) {
    for (const Weight* weight : rounded_readers(site, layer)) {
      const auto found = before(*weight).bytes;
      encoded_[weight].bytes.assign(found.begin(), found.end());
      replace(*weight, weights);
    }
  }
}

void CalibratedExperts::replace(const Weight& weight, LayerWeights& weights) {
  const Format& format = *rounded_format(weight);
  const int64_t rows = rows_of_one(weight);
  const std::span<const std::byte> bytes = encoded_.at(&weight).bytes;
  const auto size = at(rows * row_bytes(format, weight.columns()));
  for (int64_t expert = 0; expert < experts_in(weight); ++expert) {
    const TensorView view{
        &format, {rows, weight.columns()}, bytes.subspan(at(expert) * size, size)};
    matrix_of(weights.experts, weight.role, expert) =
        PackedMatrix::pack(view, {}, {.float_math = true}, pool_);
  }
}

const RoundedWeight* CalibratedExperts::encoded(const Weight& weight) const {
  const auto found = encoded_.find(&weight);
  return found == encoded_.end() ? nullptr : &found->second.rounded;
}

}  // namespace fewbits
