#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "files/errors.h"
#include "files/layouts/columnwise.h"
#include "files/layouts/layout.h"
#include "formats/small_floats.h"

namespace fewbits {

extern const Layout kAwq;
extern const Layout kCompressedTensors;
extern const Layout kFp8;
extern const Layout kGptq;
extern const Layout kGptqV2;

namespace {

constexpr const Layout* kLayouts[] = {&kAwq, &kCompressedTensors, &kFp8, &kGptq, &kGptqV2};

}  // namespace

std::span<const Layout* const> layouts() {
  return kLayouts;
}

std::vector<std::string> written_layouts() {
  std::vector<std::string> names;
  for (const Layout* layout : layouts()) {
    if (layout->holds != nullptr) names.emplace_back(layout->name);
  }
  return names;
}

std::vector<std::string> formats_of(const Layout& layout) {
  std::vector<std::string> names;
  for (const Format* format : formats()) {
    if (layout.writes(*format)) names.emplace_back(format->name);
  }
  return names;
}

const Layout& layout_named(std::string_view name) {
  for (const Layout* layout : layouts()) {
    if (layout->name == name && layout->holds != nullptr) return *layout;
  }
  throw Error(fmt::format("layout '{}' is unknown; known: {}", name, join(written_layouts())));
}

namespace {

bool has_int_groups(const Format& format) {
  const auto integers = int_format(format);
  return integers && integers->group > 0;
}

}  // namespace

void refuse_unkept(const Layout& layout, const FolderScheme& scheme) {
  if (!layout.writes(scheme.format)) {
    throw Error(fmt::format("{}: {} cannot hold it, but {}", scheme.format.name, layout.name,
                            join(formats_of(layout))));
  }
  const auto says = [&](Inputs inputs) {
    return layout.says != nullptr && layout.says(scheme.format, inputs);
  };
  if (scheme.inputs && !says(*scheme.inputs)) {
    std::vector<std::string> known;
    for (const Inputs inputs : {Inputs::kFloats, Inputs::kDynamic, Inputs::kStatic}) {
      if (says(inputs)) known.emplace_back(kInputNames[static_cast<size_t>(inputs)]);
    }
    throw Error(fmt::format("--activations {}: not with {} in {}; possible: {}",
                            kInputNames[static_cast<size_t>(*scheme.inputs)], scheme.format.name,
                            layout.name, known.empty() ? "nothing" : join(known)));
  }
  const bool thins = layout.thins != nullptr && layout.thins(scheme.format);
  if (scheme.sparse && (!thins || scheme.inputs == Inputs::kFloats)) {
    throw Error(
        fmt::format("--sparse: not with {} in {}: it is for fp8_e4m3, fp8_e4m3_channel and "
                    "int8_channel in compressed-tensors, with inputs rounded",
                    scheme.format.name, layout.name));
  }
  if (scheme.by_use && !(layout.by_use && has_int_groups(scheme.format))) {
    throw Error(
        fmt::format("--act-order: not with {} in {}: it is for groups of integers in "
                    "compressed-tensors, gptq and gptq_v2",
                    scheme.format.name, layout.name));
  }
  if (scheme.kv_scales && !layout.kv_scales) {
    throw Error(
        fmt::format("--kv-scales: {} has no place for them; take compressed-tensors", layout.name));
  }
}

std::vector<int32_t> LayoutTensor::groups_of_columns(int64_t columns, int64_t group) const {
  std::vector<int32_t> groups(static_cast<size_t>(columns));
  for (int64_t i = 0; i < columns; ++i)
    groups[static_cast<size_t>(column_of(i))] = static_cast<int32_t>(i / group);
  return groups;
}

float kv_scale(float largest) {
  return scale_to(largest, small_floats::E4M3::kLargest);
}

float scale_to(float largest, float most) {
  return largest > 0 ? largest / most : 1;
}

const Layout& layout_of(const Json& quantization_config, std::string_view where) {
  const std::string method = json_string(quantization_config, "quant_method", where);
  std::vector<std::string> known;
  for (const Layout* layout : layouts()) {
    if (layout->method == method) return *layout;
    if (known.empty() || known.back() != layout->method) known.emplace_back(layout->method);
  }
  throw Error(fmt::format("{}: quant_method {} is unknown; known: {}", where, quote_name(method),
                          join(known)));
}

}  // namespace fewbits
