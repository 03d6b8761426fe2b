#pragma once

#include <cstdint>
#include <functional>

#include "methods/column_scales.h"
#include "methods/gptq.h"
#include "model/model.h"
#include "pipeline/learned_layer.h"
#include "pipeline/sample_streams.h"

namespace fewbits {

struct CalibrationOptions {
  GptqOptions gptq = {};
  HessianOptions hessian = {};
  StreamOptions streams = {};
  /// After GPTQ has rounded all of a layer; not with sort_columns.
  LearningOptions learning = {};
  /// With streams.follow_outputs: of the way from the weights to those that give the wanted
  /// outputs, times what few tokens keep of moments (HessianOptions::tokens): .25 to .75 of the
  /// way lose alike, all of it loses more (docs/methods.md).
  double output_share = 0.37;
  ColumnScaling scaling = ColumnScaling::kNone;
  /// Biases take up the mean of what rounding their matrix loses, and the matrix is fitted to the
  /// rest (Nagel et al. 2019, arXiv 1906.04721); not with sort_columns, learning or
  /// follow_outputs.
  bool correct_biases = false;
  /// Columns are sorted by how much they matter before they are grouped, so that what is rounded
  /// has another order than the weight; not with scaling or follow_outputs.
  bool sort_columns = false;
  /// Matrices in float formats are scaled too. It changes no output; nobody gains by it but tests.
  bool scale_floats = false;
  /// Told every now and then which weight is worked on, and its relative error once it is rounded
  /// (before: -1). By the thread that called.
  std::function<void(const Weight& weight, double error)> progress = {};
  /// Told of every step of learning, and its loss before it.
  std::function<void(int64_t layer, int64_t step, double loss)> learning_progress = {};
  /// Told what learning came to in each layer.
  std::function<void(int64_t layer, const LearnedLayer& learned)> learned = {};
};

/// Outputs are followed only where the parts of a layer do no more than add to one stream, one
/// after the other: there the 16-bit model's hidden states say what each should have added.
StreamOptions streams_fitting(StreamOptions options, const Model& model);

}  // namespace fewbits
