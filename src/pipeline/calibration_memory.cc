#include "pipeline/calibration_memory.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "calibrate/samples.h"
#include "calibrate/sites.h"
#include "methods/hessian.h"
#include "pipeline/calibrated_experts.h"
#include "pipeline/learned_layer.h"

namespace fewbits {
namespace {

/// Formats that are decoded as they are used stay in the file, and its pages count.
int64_t loaded_bytes(const Weight& weight) {
  if (!weight.computed && !weight.format().is_float()) return weight.stored_bytes();
  const Format& format = weight.computed ? format_named("F32") : weight.format();
  return weight.rows() * row_bytes(format, weight.columns());
}

/// What GPTQ keeps for each of the weights that a thread works on: weights, what is aimed at, codes
/// and values, gradient, difference, and the blocks' parameters and grids.
constexpr int64_t kBytesPerOpenWeight = 28;

/// Most that the matrices of a layer and what rounds them take at once: those still to come as they
/// were loaded, those that are done as they are stored.
int64_t layer_memory(const QuantizePlan& plan, int64_t layer, int64_t hidden,
                     const CalibrationOptions& options, int threads) {
  const StreamOptions& streams = options.streams;
  std::array<int64_t, std::size(kSitesOfLayer) + 1> loaded{}, rounded{}, columns{}, open{};
  int64_t all = 0;
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    if (weight.layer != layer || !weight.is_matrix()) continue;
    const size_t site = site_of(weight.role);
    loaded[site] += loaded_bytes(weight);
    all += loaded_bytes(weight);
    if (planned.rounded_format().is_float()) continue;
    rounded[site] += weight.rows() * row_bytes(planned.rounded_format(), weight.columns());
    if (options.sort_columns) rounded[site] += 2 * weight.values() * int64_t{sizeof(float)};
    columns[site] = std::max(columns[site], weight.columns());
    open[site] = std::max(open[site],
                          weight.columns() * rows_rounded_at_once(weight.rows(), weight.columns()));
  }
  int64_t most = all, left = all, done = 0;
  for (size_t site = 0; site < std::size(kSitesOfLayer); ++site) {
    done += rounded[site];
    const Role role = kSitesOfLayer[site];
    const bool output = role == Role::kAttentionOutput || role == Role::kDown;
    const int64_t aims = output ? hidden : columns[site];  // rows of SiteMoments::cross
    const int64_t cross =
        streams.follow_outputs ? aims * columns[site] * int64_t{sizeof(float)} : 0;
    most = std::max(most, left + done + cross + hessian_bytes(columns[site]) +
                              threads * open[site] * kBytesPerOpenWeight);
    left -= loaded[site];
  }
  return streams.follow_outputs ? most + all : most;
}

/// The same of a layer with experts, all of whose matrices are loaded while some experts' moments
/// are gathered, and those that are done kept as they are stored.
int64_t experts_memory(const QuantizePlan& plan, int64_t layer, int threads) {
  int64_t all = 0, rounded = 0, most = 0;
  for (const PlannedWeight& planned : plan.weights) {
    const Weight& weight = *planned.weight;
    if (weight.layer != layer || !weight.is_matrix()) continue;
    all += loaded_bytes(weight);
    if (weight.shape.size() < 3 || planned.rounded_format().is_float()) continue;
    const int64_t columns = weight.columns(), rows = weight.rows() / weight.shape.front();
    const int64_t at_once = std::min(weight.shape.front(), experts_at_once(columns));
    rounded += weight.rows() * row_bytes(planned.rounded_format(), columns);
    most = std::max(
        most, at_once * columns * columns * int64_t{sizeof(float)} + hessian_bytes(columns) +
                  threads * rows_rounded_at_once(rows, columns) * columns * kBytesPerOpenWeight);
  }
  return most == 0 ? 0 : all + rounded + most;
}

}  // namespace

CalibrationMemory calibration_memory(const Model& model, const QuantizePlan& plan,
                                     std::span<const std::vector<Token>> samples,
                                     const CalibrationOptions& options, int threads) {
  CalibrationOptions fitted = options;
  fitted.streams = streams_fitting(options.streams, model);
  const StreamOptions& streams = fitted.streams;
  const int64_t tokens = tokens_in(samples), length = longest(samples);
  CalibrationMemory memory;
  const bool reference = options.scaling != ColumnScaling::kNone || options.learning.wanted();
  memory.states = states_kept(streams, reference) * tokens * model.config.hidden *
                  static_cast<int64_t>(sizeof(float));
  for (int64_t layer = 0; layer < model.config.layers; ++layer) {
    memory.rest = std::max(memory.rest, experts_memory(plan, layer, threads));
    const int64_t learning = learning_bytes(model, layer, length, options.learning, threads);
    memory.rest = std::max(
        memory.rest, layer_memory(plan, layer, model.config.hidden, fitted, threads) + learning);
  }
  memory.rest += stream_buffer_bytes(model.config, length);
  return memory;
}

}  // namespace fewbits
