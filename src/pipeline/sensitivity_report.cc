#include "pipeline/sensitivity_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "calibrate/model_identity.h"
#include "pipeline/certificate.h"

namespace fewbits {
namespace {

const Json& list_of(const Json& object, const char* key, std::string_view where) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found == object.end() || !found->is_array()) {
    throw Error(fmt::format("{}: no report of sensitivities: '{}' is no list", where, key));
  }
  return *found;
}

double divergence_of(const Json& object, std::string_view where) {
  const double value = json_number(object, "divergence", where);
  if (!std::isfinite(value)) throw Error(fmt::format("{}: a divergence is not finite", where));
  return value;
}

double error_of(const Json& object, const char* key, std::string_view where) {
  const double value = json_number(object, key, where);
  if (!(value >= 0 && std::isfinite(value))) {
    throw Error(fmt::format("{}: '{}' is no number of 0 or more", where, key));
  }
  return value;
}

/// Its bytes follow from the format, whatever the file says.
FormatCost cost_of(const Json& json, const Weight& weight, std::string_view where) {
  const Format* format = find_format(json_string(json, "format", where));
  if (format == nullptr || weight.columns() % format->block_values != 0) {
    throw Error(fmt::format("{}: '{}' cannot be in {}", where, weight.gguf_name,
                            json_string(json, "format", where)));
  }
  return {format, weight.rows() * row_bytes(*format, weight.columns()),
          error_of(json, "output_error", where), error_of(json, "fitted_error", where)};
}

Sensitivity matrix_of(const Json& json, const Model& model, std::string_view where) {
  const std::string name = json_string(json, "name", where);
  const auto weight = std::ranges::find(model.weights, name, &Weight::gguf_name);
  if (weight == model.weights.end() || !weight->is_matrix()) {
    throw Error(fmt::format("{}: the model has no matrix '{}'", where, name));
  }
  Sensitivity matrix{.weight = &*weight,
                     .format = &format_named(json_string(json, "format", where)),
                     .divergence = divergence_of(json, where),
                     .output_error = error_of(json, "output_error", where)};
  for (const Json& cost : list_of(json, "formats", where)) {
    matrix.costs.push_back(cost_of(cost, *weight, where));
  }
  if (matrix.costs.empty()) throw Error(fmt::format("{}: no formats for '{}'", where, name));
  return matrix;
}

}  // namespace

Json to_json(const SensitivityReport& report) {
  Json json = {{"schema", kSensitivitySchema},
               {"model", report.model},
               {"texts", to_json(report.texts)},
               {"samples", report.samples},
               {"sample_length", report.sample_length}};
  Json& matrices = json["matrices"] = Json::array();
  for (const Sensitivity& matrix : report.matrices) {
    Json formats = Json::array();
    for (const FormatCost& cost : matrix.costs) {
      formats.push_back({{"format", std::string(cost.format->name)},
                         {"bytes", cost.bytes},
                         {"output_error", cost.output_error},
                         {"fitted_error", cost.fitted_error}});
    }
    matrices.push_back({{"name", matrix.weight->gguf_name},
                        {"format", std::string(matrix.format->name)},
                        {"divergence", matrix.divergence},
                        {"output_error", matrix.output_error},
                        {"formats", std::move(formats)}});
  }
  return json;
}

SensitivityReport sensitivity_report(const Json& json, const Model& model, std::string_view where) {
  list_of(json, "matrices", where);
  if (json_integer(json, "schema", where) != kSensitivitySchema) {
    throw Error(fmt::format("{}: a report of schema {}; this program reads {}", where,
                            json_integer(json, "schema", where), kSensitivitySchema));
  }
  SensitivityReport report{.model = json_string(json, "model", where)};
  if (report.model != model_identity(model)) {
    throw Error(fmt::format("{}: measured on another model", where));
  }
  report.samples = json_integer_or(json, "samples", 0, where);
  report.sample_length = json_integer_or(json, "sample_length", 0, where);
  for (const Json& matrix : list_of(json, "matrices", where)) {
    report.matrices.push_back(matrix_of(matrix, model, where));
  }
  return report;
}

}  // namespace fewbits
