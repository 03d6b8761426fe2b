#include "files/layouts/join.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "files/errors.h"
#include "files/layouts/layout.h"

namespace fewbits {
namespace {

constexpr std::string_view kWeight = ".weight";

/// Every module of the layout, by the name of its weight.
std::vector<std::pair<std::string, CodedMatrix>> join_modules(const Layout& layout, Parts& parts) {
  std::vector<std::pair<std::string, CodedMatrix>> matrices;
  for (const LayoutReader& reader : layout.readers) {
    for (const auto& [name, part] : parts.all()) {
      if (!name.ends_with(reader.mark) || parts.used().contains(name)) continue;
      const std::string module = name.substr(0, name.size() - reader.mark.size());
      matrices.emplace_back(module + std::string(kWeight), reader.join(parts, module));
    }
  }
  return matrices;
}

}  // namespace

ActivationScheme join_tensors(TensorStore& store, const Json& quantization_config,
                              std::string_view where) {
  const Layout& layout = layout_of(quantization_config, where);
  Parts parts(store, quantization_config, where);
  auto matrices = join_modules(layout, parts);
  for (const auto& [name, part] : parts.all()) {
    const auto ends = [&name = name](std::string_view end) { return name.ends_with(end); };
    if (std::ranges::any_of(layout.ignored, ends)) parts.ignore(name);
  }
  for (const OtherTensor& other : store.others()) {
    if (parts.used().contains(other.name)) continue;
    throw Error(fmt::format("{}: tensor {} in {} is no part of a weight that {} would split so",
                            where, quote_name(other.name), quote_name(other.dtype), layout.name));
  }
  ActivationScheme scheme = read_activation_scheme(
      parts, layout.inputs != nullptr ? layout.inputs(quantization_config) : InputRule{});
  store.join(parts.used(), std::move(matrices));
  return scheme;
}

}  // namespace fewbits
