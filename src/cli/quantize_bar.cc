#include "cli/quantize_bar.h"

#include <fmt/format.h>

#include <algorithm>

namespace fewbits::cli {
namespace {

/// What GPTQ does with a matrix; the forward passes are a fixed share of that for one model.
int64_t work_with(const PlannedWeight& planned) {
  const Weight& weight = *planned.weight;
  const Format& format = planned.rounded_format();
  const bool rounded =
      weight.layer >= 0 && weight.is_matrix() && !format.is_float() && &format != &weight.format();
  return rounded ? weight.values() * weight.columns() : 0;
}

}  // namespace

QuantizeBar::QuantizeBar(const QuantizePlan& plan, bool calibrated, double learned)
    : plan_(plan), learned_(learned) {
  if (!calibrated) return;
  for (const PlannedWeight& planned : plan.weights) {
    all_ += work_with(planned) + learning_work(planned);
    layers_ = std::max(layers_, planned.weight->layer + 1);
  }
}

int64_t QuantizeBar::work_of(int64_t layer) const {
  int64_t work = 0;
  for (const PlannedWeight& planned : plan_.weights) {
    if (planned.weight->layer == layer) work += work_with(planned);
  }
  return work;
}

int64_t QuantizeBar::learning_work(const PlannedWeight& planned) const {
  constexpr double kOfGptq = 24;  // of it and the descent, for each of the columns of a weight
  const bool learned = planned.weight->layer >= 0 && planned.weight->is_matrix();
  return learned ? static_cast<int64_t>(learned_ / kOfGptq *
                                        static_cast<double>(planned.weight->values()))
                 : 0;
}

int64_t QuantizeBar::learning_work_of(int64_t layer) const {
  int64_t work = 0;
  for (const PlannedWeight& planned : plan_.weights) {
    if (planned.weight->layer == layer) work += learning_work(planned);
  }
  return work;
}

void QuantizeBar::learning(int64_t layer, double share, double loss) {
  if (!bar_) return;
  done_ -= learning_;
  learning_ = static_cast<int64_t>(share * static_cast<double>(learning_work_of(layer)));
  done_ += learning_;
  if (share == 1) learning_ = 0;
  detail_ = fmt::format("layer {} of {} learns: lost {:.2e}", layer + 1, layers_, loss);
  wait();
}

void QuantizeBar::bytes(int64_t done, int64_t total, const std::string& tensor) {
  if (all_ > 0) {
    if (!bar_) bar_.emplace("quantize", layers_);
    if (done_ == 0 || done_ == all_) detail_ = tensor;  // before and behind the layers
    return wait();
  }
  if (!bar_) bar_.emplace("quantize", Progress::Unit::kBytes);
  bar_->update(done, total, tensor);
}

void QuantizeBar::matrix(const Weight& weight, double error) {
  if (restoring_ || !bar_) bar_.emplace("quantize", layers_);
  restoring_ = false;
  const std::string name =
      fmt::format("layer {} of {}: {}", weight.layer + 1, layers_, weight.gguf_name);
  if (error >= 0) {
    for (const PlannedWeight& planned : plan_.weights) {
      if (planned.weight == &weight) done_ += work_with(planned);
    }
    error_ = fmt::format("; {} lost {:.1e}", weight.gguf_name, error);
  }
  detail_ = name + error_;
  wait();
}

void QuantizeBar::restored(int64_t layer) {
  if (!restoring_) bar_.emplace("taking up", layers_);
  restoring_ = true;
  done_ += work_of(layer) + learning_work_of(layer);
  detail_ = fmt::format("layer {} of {} was done", layer + 1, layers_);
  wait();
}

void QuantizeBar::wait() {
  if (bar_) bar_->update(done_, all_, detail_);
}

void QuantizeBar::read_back(int64_t done, int64_t total, const std::string& tensor) {
  if (!reading_) bar_.emplace("reading back", Progress::Unit::kBytes);
  reading_ = true;
  bar_->update(done, total, tensor);
  if (done == total) finish();
}

void QuantizeBar::finish() {
  bar_.reset();
}

}  // namespace fewbits::cli
